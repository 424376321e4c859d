"""Time by phase from sums is what a fresh fold says, in both ledgers, after corrections and over any cut."""

from __future__ import annotations

import random
from datetime import UTC
from zoneinfo import ZoneInfo

from alembic.migration import MigrationContext
from alembic.operations import Operations
from sqlalchemy import text

from tests.billing.worlds import T0
from tests.exporter.records import intent, settlement
from tests.exporter.test_sealing import PRICES, START, at, seal
from tests.exporter.test_stores import ENDPOINT, AnyStore, Open, lived, opened, server, uid
from zerotide.api.scalars import HOUR
from zerotide.billing.facts import Allocation, Fact, Kind, encode
from zerotide.billing.rating import Period
from zerotide.billing.rollups import DAY, QUARTER, SPANS
from zerotide.billing.times import TimeReport, time_report
from zerotide.exporter.migrations.versions import ledger_0005
from zerotide.exporter.schema import STEPS
from zerotide.exporter.sqlite import SQLiteStore
from zerotide.exporter.timequestions import folded_times, times, times_check

__all__ = ["opened", "server"]

ANY = ("", "")
ROME = ZoneInfo("Europe/Rome")
NOW = at(60 * 3600)


def filled(store: AnyStore) -> AnyStore:
    """Return a ledger with replicas of three sorts that lived over two midnights, sealed but for the last hour."""
    store.add_endpoint(ENDPOINT._replace(cold_start="ProRata", split="Equal"))
    store.add_facts(lived("u1", scheduled=0, started=5, ready=20, finished=180_000), T0)
    store.add_facts(lived("u2", scheduled=60_000.25, started=60_005, ready=60_020), T0)
    cores = encode(Allocation("", 0, 250, 3 * 2**28))
    others = [fact for fact in lived("u3", scheduled=9, started=15, ready=30) if fact.kind != Kind.ALLOCATION]
    store.add_facts([*others, Fact("c", uid("u3"), Kind.ALLOCATION, cores, T0)], T0)
    for number in range(40):
        begin = at(number * 4000 + 100)
        begun = intent(str(number), forwarded_us=begin, pod_uid=uid("u1"), consumer=f"demo/{number % 3}")
        store.add_usage([begun], [], T0)
        store.add_usage([settlement(str(number), ended_us=begin + 77_000_001)], [], T0)
    seal(store, NOW)
    return store


def equal(store: AnyStore, period: Period, by: str = "total", where: ZoneInfo | None = None) -> TimeReport:
    """Return a report, which is what a fold of each of its slices says."""
    zone = where or UTC
    report = times(store, PRICES, ANY, period, NOW, by, zone)
    slices = sorted({(row.from_us, row.to_us) for row in report.rows})
    found = [(Period(*each), folded_times(store, PRICES, ANY, Period(*each), NOW)) for each in slices]
    assert report == time_report(found, period, NOW, report.sealed_until_us)
    return report


def test_a_report_from_sums_is_that_of_a_fold(opened: Open) -> None:
    store, chance = filled(opened()), random.Random(3)
    report = equal(store, Period(START, NOW))
    assert report.sealed_until_us == (NOW - HOUR) // QUARTER * QUARTER
    assert {row.phase for row in report.rows} >= {"provisioning", "loading", "active", "idle_keep_warm"}
    assert {row.meter for row in report.rows} == {"AcceleratorTime", "CPUTime", "MemoryTime"}
    for _ in range(8):
        low, high = sorted(chance.randrange(T0 - HOUR, NOW) for _ in range(2))
        equal(store, Period(low, high))
    assert len({row.from_us for row in equal(store, Period(START, NOW), "day", ROME).rows}) == 4
    assert len({row.from_us for row in equal(store, Period(at(3600 * 50), NOW), "hour", ROME).rows}) > 9
    assert times(store, PRICES, ("demo", "other"), Period(START, NOW), NOW, "total", UTC).rows == ()
    assert times_check(store, ANY, Period(0, NOW)).differences == ()


def test_corrections_are_in_the_sums_of_the_time_that_they_are_of(opened: Open) -> None:
    store = filled(opened())
    store.add_facts(lived("u2", scheduled=60_000.25, started=60_005, ready=60_020, finished=100_000), NOW)
    seal(store, NOW + QUARTER)
    equal(store, Period(START, NOW), "day")
    check = times_check(store, ANY, Period(0, NOW))
    assert check.checked > 0 and check.differences == ()


def run(store: AnyStore, *statements: str) -> None:
    """Run statements behind the ledger's back."""
    if isinstance(store, SQLiteStore):
        for statement in statements:
            store._db.execute(statement)
        return
    with store._engine.begin() as db:
        for statement in statements:
            db.execute(text(statement))


def test_a_sum_that_was_changed_is_named(opened: Open) -> None:
    store = filled(opened())
    run(store, f"UPDATE time_sum SET quantity = '1' WHERE span_us = {DAY} AND phase = 'loading'")
    found = times_check(store, ANY, Period(0, NOW)).differences
    assert found and all("loading" in each for each in found)


def test_what_was_sealed_before_there_were_sums_is_summed(opened: Open) -> None:
    store = filled(opened())
    period = Period(START // DAY * DAY, START // DAY * DAY + 3 * DAY)
    expected = [store.seals.times("", "", span, period) for span in SPANS]
    assert expected[0] == expected[1] != {}
    run(store, "DROP TABLE time_sum")
    if isinstance(store, SQLiteStore):
        run(store, *next(step for step in STEPS if "CREATE TABLE time_sum" in step).split(";"))
    else:
        with store._engine.begin() as db, Operations.context(MigrationContext.configure(db)):
            ledger_0005.upgrade()
    again = opened()
    assert [again.seals.times("", "", span, period) for span in SPANS] == expected
    seal(again, NOW + QUARTER)
    assert times_check(again, ANY, Period(0, NOW)).differences == ()
