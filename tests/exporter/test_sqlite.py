"""The embedded ledger: repeatable writes, durable, and clear about what is wrong with a file."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.billing.test_rating import gpu, index
from tests.billing.worlds import T0, life
from tests.exporter.records import intent, settlement
from zerotide.api.scalars import SECOND
from zerotide.api.usage import Intent, Outcome, Settlement, Tokens
from zerotide.billing.compose import cost_report
from zerotide.billing.facts import Fact, Kind
from zerotide.billing.keepwarm import Floor
from zerotide.billing.ledger import ColdStart, Split, Wake, folded
from zerotide.billing.rating import Period
from zerotide.exporter.counters import TOKENS
from zerotide.exporter.errors import ExporterError, StoreDamaged, StoreError, StoreTooNew, StoreUnavailable
from zerotide.exporter.sqlite import SQLiteStore
from zerotide.exporter.store import EndpointRecord, OpenPod, Refused, Settled

EVER = Period(0, T0 + 10**12)
ENDPOINT = EndpointRecord(
    "iep-uid", "demo", "smollm2", T0 - SECOND, "demo/team", 60 * SECOND, 1, 2, T0, "Trigger", "Tokens"
)
WAKE = Wake("iep-uid", "w1", "demo", "smollm2", T0, "Request", 3 * SECOND, (("pull", SECOND), ("load", 2 * SECOND)))


def test_everything_is_read_back(store: SQLiteStore) -> None:
    facts = life(scheduled=1, started=2)
    store.add_facts(facts, T0)
    store.add_usage([intent(forwarded_us=T0 + 5), settlement(ended_us=T0 + 9)], [], T0)
    store.add_endpoint(ENDPOINT)
    store.add_wake(WAKE)
    (records,) = store.records("", "", EVER)
    assert (records.namespace, records.endpoint, records.owner) == ("demo", "smollm2", "demo/team")
    assert (records.since_us, records.open_limit_us) == (T0 - SECOND, 60 * SECOND)
    assert (records.cold_start, records.split) == (ColdStart.TRIGGER, Split.TOKENS)
    assert set(records.facts["u1"]) == set(facts)
    assert [(each.request_id, each.ended_us, each.output_tokens) for each in records.attempts] == [("r1", T0 + 9, 5)]
    assert records.floors == (Floor(T0, 2),)
    assert records.wakes == (WAKE,)


def test_estimates_are_told_apart_up_to_the_report(store: SQLiteStore) -> None:
    gone = settlement("r2", ended_us=T0 + 8, tokens=None, outcome=Outcome.CLIENT_GONE)
    estimate = Tokens(input=0, output=4, estimated=True)
    done = [gone.model_copy(update={"tokens": estimate}), settlement("r1", ended_us=T0 + 9)]
    store.add_usage([intent("r1", forwarded_us=T0), intent("r2", forwarded_us=T0), *done], [], T0)
    store.add_endpoint(ENDPOINT)
    assert [(each.request_id, each.estimated) for each in store.attempts()] == [("r1", 0), ("r2", 1)]
    ledgers = [folded(each, T0 + SECOND) for each in store.records("", "", EVER)]
    (cost,) = cost_report(ledgers, index(gpu()), Period(T0, T0 + SECOND), T0 + SECOND).endpoints
    assert (cost.tokens.output, cost.tokens.estimated_output) == (9, 4)
    assert cost.notes[0].startswith("4 of the tokens out are estimated")


def test_writing_again_changes_nothing(store: SQLiteStore) -> None:
    for now in (T0, T0 + 5):
        store.add_facts(life(scheduled=1), now)
        store.add_usage([intent(forwarded_us=T0), settlement(ended_us=T0 + 9)], [Refused(b"x", "no record")], now)
        store.add_endpoint(ENDPOINT._replace(floor_from_us=T0 + now - T0))
        store.add_wake(WAKE)
    (records,) = store.records("demo", "smollm2", EVER)
    assert len(store.facts()) == len(life(scheduled=1))
    assert len(records.attempts) == len(records.wakes) == store.refused() == 1
    assert records.floors == (Floor(T0, 2),), "of two stamps of one floor the earlier one stays"
    assert store.series()[TOKENS, ("demo", "smollm2", "demo/a", "output")] == 5


records_of_one = st.lists(
    st.sampled_from(["i1", "s1", "i2", "s2", "s3"]).map(
        lambda name: (
            intent(name[1], forwarded_us=T0)
            if name[0] == "i"
            else settlement(name[1], ended_us=T0 + 9, outcome=Outcome.LOST if name[1] == "2" else Outcome.COMPLETED)
        )
    ),
    max_size=12,
)


@given(records_of_one)
def test_tokens_count_once_in_any_order_and_only_of_delivered_answers(records: list[Intent | Settlement]) -> None:
    store = SQLiteStore(Path(":memory:"))
    for record in records:
        store.add_usage([record], [], T0)
    kinds = {(record.kind, record.request_id) for record in records}
    complete = {("intent", "1"), ("settlement", "1")} <= kinds
    expected = {"input": 4, "cached_input": 3, "output": 5} if complete else {}
    assert {labels[3]: value for (_, labels), value in store.series().items()} == expected
    store.close()


def test_records_are_chosen_by_endpoint_and_period(store: SQLiteStore) -> None:
    store.add_facts(life("u1", created=0, scheduled=1, finished=10), T0)
    store.add_facts(life("u2", created=20, scheduled=21), T0)

    def pods(namespace: str, endpoint: str, start: float, end: float) -> list[str]:
        period = Period(T0 + round(start * SECOND), T0 + round(end * SECOND))
        return [uid for records in store.records(namespace, endpoint, period) for uid in sorted(records.facts)]

    assert pods("demo", "smollm2", 0, 100) == ["u1", "u2"]
    assert pods("demo", "smollm2", 5, 15) == ["u1"]
    assert pods("demo", "", 11, 20) == []
    assert pods("", "", 11, 100) == ["u2"]
    assert pods("other", "", 0, 100) == pods("demo", "other", 0, 100) == []


def test_living_pods_are_those_without_an_end(store: SQLiteStore) -> None:
    store.add_facts([*life("u1", scheduled=1, finished=10), *life("u2", scheduled=1), *life("u3", gone=4)], T0)
    living = store.living("c")
    assert living.keys() == {"u2"}
    assert Kind.ACCELERATOR in living["u2"]
    assert store.living("elsewhere") == {}


def test_settling_moves_pods_and_counters_together(store: SQLiteStore) -> None:
    store.add_facts(life("u1", scheduled=1), T0)
    assert store.unsettled() == [OpenPod("c", "u1", "demo", "smollm2", 0)]
    assert store.settle([Settled("c", "u1", 0, T0, False)], {("gpu_seconds", ("a", "é")): Fraction(1, 3)}, {})
    again = store.settle([Settled("c", "u1", 0, T0, False)], {("gpu_seconds", ("a", "é")): Fraction(1, 3)}, {})
    assert not again, "the same time is never counted twice"
    assert store.settle([Settled("c", "u1", T0, T0 + 1, True)], {("gpu_seconds", ("a", "é")): Fraction(1, 6)}, {})
    assert store.unsettled() == []
    assert store.series() == {("gpu_seconds", ("a", "é")): Fraction(1, 2)}


def test_a_failed_transaction_leaves_nothing(store: SQLiteStore) -> None:
    broken: Sequence[Any] = [intent(forwarded_us=T0), None]
    with pytest.raises(AttributeError):
        store.add_usage(broken, [], T0)
    assert store.attempts() == []
    store.add_usage([intent(forwarded_us=T0)], [], T0)
    assert len(store.attempts()) == 1


def test_every_commit_waits_for_the_disk(tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path / "ledger.sqlite")
    assert store._db.execute("PRAGMA synchronous").fetchone() == (2,), "2 is FULL"
    assert store._db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    store.close()


def test_a_full_disk_is_said_and_survived(tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path / "ledger.sqlite")
    store.add_facts(life("u1"), T0)
    pages = store._db.execute("PRAGMA page_count").fetchone()[0]
    store._db.execute(f"PRAGMA max_page_count = {pages}")
    many = [Fact("c", f"u{number}", Kind.CREATED, "x" * 200, T0) for number in range(1000)]
    with pytest.raises(StoreUnavailable, match="full"):
        store.add_facts(many, T0)
    store._db.execute("PRAGMA max_page_count = 100000")
    store.add_facts(many, T0)
    assert len(store.facts()) == 1000 + len(life("u1"))
    store.close()


def test_a_closed_ledger_is_unavailable(tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path / "ledger.sqlite")
    store.close()
    with pytest.raises(StoreUnavailable):
        store.series()


def test_a_folder_that_cannot_be_made_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreUnavailable):
        SQLiteStore(tmp_path / "file" / "ledger.sqlite")


def test_a_file_that_is_no_ledger_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    path.write_bytes(b"this is no database" * 100)
    with pytest.raises(StoreDamaged, match="restore it from a backup"):
        SQLiteStore(path)


def test_a_reader_sees_what_a_writer_has_committed(tmp_path: Path) -> None:
    writer, reader = SQLiteStore(tmp_path / "ledger.sqlite"), SQLiteStore(tmp_path / "ledger.sqlite")
    writer.add_facts(life("u1", scheduled=1), T0)
    assert len(reader.facts()) == len(life("u1", scheduled=1))
    reader.close()
    writer.close()


@pytest.mark.parametrize("error", [StoreDamaged, StoreTooNew, StoreUnavailable])
def test_the_stores_failures_are_one_family(error: type[StoreError]) -> None:
    assert issubclass(error, StoreError)
    assert issubclass(StoreError, ExporterError)
