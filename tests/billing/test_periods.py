"""Named periods: whole, half-open, and adding up in every zone, whatever its clocks do."""

from __future__ import annotations

from datetime import UTC, timedelta
from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.billing.test_compose import AS_OF, PRICES, ledger, whole_life
from tests.billing.worlds import T0
from zerotide.api.scalars import HOUR, format_time, parse_time
from zerotide.billing.bills import endpoint_bill
from zerotide.billing.errors import BillingError, UnknownPeriod, UnknownZone
from zerotide.billing.periods import named_period, zone
from zerotide.billing.rating import LineKey, Period

NOW = parse_time("2026-03-29T12:00:00Z")
ZONES = ("UTC", "Europe/Rome", "America/New_York", "Asia/Kolkata", "Asia/Kathmandu", "Australia/Lord_Howe")


@pytest.mark.parametrize(
    ("text", "where", "start", "end"),
    [
        ("today", "UTC", "2026-03-29T00:00:00Z", "2026-03-30T00:00:00Z"),
        ("Today", "Europe/Rome", "2026-03-28T23:00:00Z", "2026-03-29T22:00:00Z"),
        ("yesterday", "Asia/Kathmandu", "2026-03-27T18:15:00Z", "2026-03-28T18:15:00Z"),
        ("this week", "UTC", "2026-03-23T00:00:00Z", "2026-03-30T00:00:00Z"),
        ("last week", "UTC", "2026-03-16T00:00:00Z", "2026-03-23T00:00:00Z"),
        ("this month", "Europe/Rome", "2026-02-28T23:00:00Z", "2026-03-31T22:00:00Z"),
        ("last  month", "UTC", "2026-02-01T00:00:00Z", "2026-03-01T00:00:00Z"),
        ("last year", "UTC", "2025-01-01T00:00:00Z", "2026-01-01T00:00:00Z"),
        ("2026", "UTC", "2026-01-01T00:00:00Z", "2027-01-01T00:00:00Z"),
        ("2024-02", "UTC", "2024-02-01T00:00:00Z", "2024-03-01T00:00:00Z"),
        ("2024-02-29", "UTC", "2024-02-29T00:00:00Z", "2024-03-01T00:00:00Z"),
    ],
)
def test_a_name_means_a_whole_period_of_its_zone(text: str, where: str, start: str, end: str) -> None:
    period = named_period(text, NOW, zone(where))
    assert [format_time(edge) for edge in period] == [start, end]


@pytest.mark.parametrize("text", ["", "month", "next month", "2026-13", "2025-02-29", "last day", "9999"])
def test_what_means_no_period_is_refused_with_those_that_do(text: str) -> None:
    with pytest.raises(UnknownPeriod, match="last week, month or year"):
        named_period(text, NOW)
    assert issubclass(UnknownPeriod, BillingError)


@pytest.mark.parametrize("name", ["Europe/Atlantis", "", "../etc/passwd", "Rome"])
def test_a_zone_that_nobody_knows_is_refused(name: str) -> None:
    with pytest.raises(UnknownZone, match="such as Europe/Rome"):
        zone(name)


@pytest.mark.parametrize("name", ZONES)
def test_the_days_of_a_year_are_its_months_in_every_zone(name: str) -> None:
    where = zone(name)
    assert zone("UTC") is UTC
    months = [named_period(f"2026-{month:02}", NOW, where) for month in range(1, 13)]
    assert all(one.end_us == other.start_us for one, other in pairwise(months))
    year = named_period("2026", NOW, where)
    assert (months[0].start_us, months[-1].end_us) == year
    day, edge, lengths = year.start_us, year.start_us, set()
    while edge < year.end_us:
        one = named_period("today", day, where)
        assert one.start_us == edge
        edge = day = one.end_us
        lengths.add((one.end_us - one.start_us) // (HOUR // 2))
    assert edge == year.end_us
    assert lengths <= {46, 47, 48, 49, 50}


@given(st.sampled_from(ZONES), st.integers(0, 40))
def test_a_bill_is_the_same_by_days_of_any_zone(name: str, hours: int) -> None:
    made = ledger(whole_life(), whole_life("u2"))
    start = T0 - hours * HOUR
    end, where = AS_OF + timedelta(days=1) // timedelta(microseconds=1), zone(name)
    whole, edge = endpoint_bill(made, PRICES, Period(start, end)).lines(), start
    summed: dict[LineKey, Fraction] = {}
    while edge < end:
        day = Period(edge, min(named_period("today", edge, where).end_us, end))
        for key, line in endpoint_bill(made, PRICES, day).lines().items():
            summed[key] = summed.get(key, Fraction(0)) + line.amount
        edge = day.end_us
    assert summed == {key: line.amount for key, line in whole.items()}
