"""Time by phase: sums of quarters and days are what segments say, however a period is cut."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.billing.test_compose import ledger
from tests.billing.test_sealing import PRICES, replace_times, worlds
from tests.billing.worlds import T0, attempt
from zerotide.api.scalars import HOUR
from zerotide.billing.errors import InvalidPeriod
from zerotide.billing.facts import Fact
from zerotide.billing.ledger import ColdStart, folded
from zerotide.billing.periods import named_period
from zerotide.billing.rating import Period
from zerotide.billing.rollups import DAY, QUARTER, SPANS
from zerotide.billing.sealing import charges
from zerotide.billing.spans import Span
from zerotide.billing.times import MOST, TimeKey, added_times, slices, spent, sums_of, time_check, time_report

EDGE = T0 // DAY * DAY + DAY
"""A midnight that lies within every world, so that quarters and days are cut there."""
EVER = Period(EDGE - 4 * QUARTER, EDGE + 4 * QUARTER)
KEY = TimeKey("demo", "smollm2", "CPUTime", "", "active")
ZONES = [ZoneInfo(name) for name in ("UTC", "Europe/Rome", "Asia/Kathmandu", "Australia/Lord_Howe")]


@given(worlds, st.integers(-8, 8), st.sampled_from(ZONES), st.sampled_from(["total", "day", "hour"]))
def test_sums_of_what_is_sealed_are_what_segments_say(
    world: tuple[list[Fact], list[tuple[str, Span, int]], ColdStart], shift: int, where: ZoneInfo, by: str
) -> None:
    facts, flown, cold_start = world
    move = EDGE - T0 - 100 + shift
    facts = [fact._replace(t_us=fact.t_us + move) for fact in facts]
    attempts = tuple(
        replace_times(attempt(0, 0, who, request_id=str(number), tokens=(n, 0, n)), span, move)
        for number, (who, span, n) in enumerate(flown)
    )
    made = ledger(facts, attempts=attempts, as_of=EDGE + QUARTER)
    made = folded(replace(made.records, cold_start=cold_start), EDGE + QUARTER)
    default = PRICES.book.default_class
    sums = sums_of(charges(made, PRICES, EVER).items())
    for span in SPANS:
        for start in range(EVER.start_us // span * span, EVER.end_us, span):
            found = {key: quantity for (length, at, key), quantity in sums.items() if (length, at) == (span, start)}
            assert added_times([found]) == spent(made, Period(start, start + span), default)
    whole = spent(made, EVER, default)
    assert added_times(spent(made, part, default) for part in slices(EVER, by, where)) == whole
    assert time_check(whole, whole).differences == ()


@pytest.mark.parametrize("where", ZONES, ids=str)
def test_slices_partition_a_period_at_the_zones_midnights(where: ZoneInfo) -> None:
    for name, days in (("2026-03", 31), ("2026-10", 31), ("2026-04", 30)):
        month = named_period(name, T0, where)
        for by in ("total", "day", "hour"):
            parts = slices(month, by, where)
            assert (parts[0].start_us, parts[-1].end_us) == month
            assert all(one.end_us == other.start_us for one, other in pairwise(parts))
            if by == "day":
                assert len(parts) == days
                assert {part.start_us % QUARTER for part in parts} == {0}
    odd = Period(T0 + 7, T0 + 3 * HOUR + 9)
    assert [part.end_us - part.start_us for part in slices(odd, "total", where)] == [3 * HOUR + 2]
    assert slices(Period(T0, T0), "hour", where) == []


def test_an_hour_that_clocks_repeat_is_two() -> None:
    day = named_period("2026-10-25", T0, ZoneInfo("Europe/Rome"))
    assert len(slices(day, "hour", ZoneInfo("Europe/Rome"))) == 25


def test_more_parts_than_anyone_reads_are_refused() -> None:
    assert len(slices(Period(EDGE, EDGE + MOST * HOUR), "hour", ZONES[0])) == MOST
    with pytest.raises(InvalidPeriod, match="ask for a shorter one"):
        slices(Period(0, EDGE), "day", ZONES[0])


def test_a_row_says_seconds_to_the_microsecond_and_a_difference_says_where() -> None:
    report = time_report([(EVER, {KEY: Fraction(7_000_001, 2)})], EVER, EDGE, EDGE)
    assert [(row.phase, row.seconds) for row in report.rows] == [("active", "3.500000")]
    (found,) = time_check({KEY: Fraction(1)}, {}).differences
    assert found == "demo/smollm2, active (CPUTime): the sum is 1 us, its charges are 0 us"
