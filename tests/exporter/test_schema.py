"""Ledgers of older versions open and keep everything; those of newer ones are refused."""

from __future__ import annotations

import sqlite3
from fractions import Fraction
from pathlib import Path

import pytest

from tests.billing.worlds import T0
from zerotide.api.scalars import SECOND
from zerotide.billing.facts import Fact
from zerotide.billing.keepwarm import Floor
from zerotide.billing.ledger import Wake
from zerotide.billing.rating import Period
from zerotide.exporter.errors import StoreTooNew
from zerotide.exporter.schema import STEPS, migrate
from zerotide.exporter.sqlite import SQLiteStore
from zerotide.exporter.store import OpenPod

# What a ledger of each version adds to that of the version before, as that version wrote it.
WRITTEN = {
    1: f"""
        INSERT INTO fact VALUES ('c', 'u1', 'pod', '["demo","tiny","p1"]', {T0}, {T0});
        INSERT INTO fact VALUES ('c', 'u1', 'created', '', {T0}, {T0});
        INSERT INTO pod VALUES ('c', 'u1', 'demo', 'tiny', {T0}, {T0 + 5}, 0);
        INSERT INTO intent VALUES ('r1', 1, 'demo', 'tiny', 'demo/a', 'u1', 0, '', {T0 + 1}, '{{}}', {T0});
        INSERT INTO intent VALUES ('r2', 1, 'demo', 'tiny', 'demo/b', 'u1', 1, 'w1', {T0 + 2}, '{{}}', {T0});
        INSERT INTO intent VALUES ('r3', 1, 'demo', 'tiny', 'demo/b', 'u1', 0, '', {T0 + 3}, '{{}}', {T0});
        INSERT INTO settlement VALUES ('r1', 1, {T0 + 8}, 'completed', 7, 3, 5, '{{}}', {T0});
        INSERT INTO settlement VALUES ('r2', 1, {T0 + 9}, 'lost', 7, 3, 5, '{{}}', {T0});
        INSERT INTO refused VALUES ('d', x'78', 'no record', {T0});
        INSERT INTO endpoint VALUES ('e', 'demo', 'tiny', {T0}, 'demo/team', {60 * SECOND});
        INSERT INTO floor VALUES ('e', 1, 2, {T0});
        INSERT INTO wake VALUES ('e', 'w1', 'demo', 'tiny', {T0}, 'Request', 3, '[["pull", 1], ["load", 2]]');
        INSERT INTO series VALUES ('cpu_seconds', '["demo", "tiny", "active"]', '1/3');
        INSERT INTO series VALUES ('tokens', '["demo", "tiny", "input"]', '4');
        INSERT INTO series VALUES ('tokens', '["demo", "tiny", "cached_input"]', '3');
        INSERT INTO series VALUES ('tokens', '["demo", "tiny", "output"]', '5');
    """,
    2: "",
    3: "",
    4: "",
    5: "",
    6: "",
    7: "",
    8: "",
    9: "",
    10: "",
    11: "",
    12: "",
    13: "",
    14: "",
}


def ledger(path: Path, version: int) -> Path:
    """Make a file as that version left it."""
    connection = sqlite3.connect(path, isolation_level=None)
    for number in range(1, version + 1):
        migrate(connection, STEPS[:number])
        connection.executescript(WRITTEN[number])
    assert connection.execute("PRAGMA user_version").fetchone() == (version,)
    connection.close()
    return path


@pytest.mark.parametrize("version", range(1, len(STEPS) + 1))
def test_an_old_ledger_opens_and_keeps_everything(tmp_path: Path, version: int) -> None:
    store = SQLiteStore(ledger(tmp_path / "ledger.sqlite", version))
    facts = {Fact("c", "u1", "pod", '["demo","tiny","p1"]', T0), Fact("c", "u1", "created", "", T0)}
    assert store.facts() == facts
    assert store.unsettled() == [OpenPod("c", "u1", "demo", "tiny", T0 + 5)]
    assert store.refused() == 1
    (records,) = store.records("demo", "tiny", Period(0, T0 + 100))
    assert (records.owner, records.since_us, records.open_limit_us) == ("demo/team", T0, 60 * SECOND)
    assert set(records.facts["u1"]) == facts
    assert records.floors == (Floor(T0, 2),)
    assert records.wakes == (Wake("e", "w1", "demo", "tiny", T0, "Request", 3, (("pull", 1), ("load", 2))),)
    assert list(records.attempts) == store.attempts()
    assert [(each.request_id, each.ended_us, each.outcome) for each in store.attempts()] == [
        ("r1", T0 + 8, "completed"),
        ("r2", T0 + 9, "lost"),
        ("r3", None, ""),
    ]
    assert store.series() == {
        ("cpu_seconds", ("demo", "tiny", "active")): Fraction(1, 3),
        ("tokens", ("demo", "tiny", "demo/a", "input")): 4,
        ("tokens", ("demo", "tiny", "demo/a", "cached_input")): 3,
        ("tokens", ("demo", "tiny", "demo/a", "output")): 5,
    }
    store.close()


def test_of_many_consumers_the_largest_keep_their_names(tmp_path: Path) -> None:
    path = ledger(tmp_path / "ledger.sqlite", 1)
    with sqlite3.connect(path) as connection:
        for number in range(501):
            connection.execute(
                "INSERT INTO intent VALUES (?, 1, 'demo', 'tiny', ?, 'u1', 0, '', 0, '{}', 0)",
                (f"m{number}", f"n/c{number}"),
            )
            connection.execute(
                "INSERT INTO settlement VALUES (?, 1, 0, 'completed', 0, 0, ?, '{}', 0)", (f"m{number}", 100 + number)
            )
    connection.close()
    store = SQLiteStore(path)
    tokens = {labels[2:]: value for (name, labels), value in store.series().items() if name == "tokens"}
    assert tokens["n/c1", "output"] == 101
    assert ("n/c0", "output") not in tokens and ("demo/a", "output") not in tokens
    assert tokens["_other", "output"] == 100 + 5, "the smallest ones together"
    assert sum(tokens.values()) == sum(100 + number for number in range(501)) + 12
    store.close()


def test_a_newer_ledger_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    SQLiteStore(path).close()
    with sqlite3.connect(path) as connection:
        connection.execute(f"PRAGMA user_version = {len(STEPS) + 1}")
    connection.close()
    with pytest.raises(StoreTooNew, match="run the newer exporter again"):
        SQLiteStore(path)


def test_a_ledger_is_brought_up_step_by_step(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "ledger.sqlite", isolation_level=None)
    migrate(connection)
    migrate(connection, (*STEPS, "CREATE TABLE later (x TEXT NOT NULL) STRICT"))
    connection.execute("INSERT INTO later VALUES ('kept')")
    migrate(connection, (*STEPS, "CREATE TABLE later (x TEXT NOT NULL) STRICT"))
    assert connection.execute("SELECT x FROM later").fetchall() == [("kept",)]
    assert connection.execute("PRAGMA user_version").fetchone() == (len(STEPS) + 1,)
    connection.close()
