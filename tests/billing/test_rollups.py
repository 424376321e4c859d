"""Sums by day and quarter of an hour cover every period exactly."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.billing.worlds import T0, attempt
from zerotide.billing.rating import Period
from zerotide.billing.rollups import DAY, QUARTER, Usage, UsageKey, counted, cover, rollup_check

MIDNIGHT = T0 // DAY * DAY
edges = st.one_of(
    st.integers(T0, T0 + 4 * DAY), st.integers(0, 400).map(lambda n: MIDNIGHT + n * QUARTER), st.just(MIDNIGHT)
)


@given(edges, edges)
def test_days_quarters_and_rests_partition_a_period(one: int, other: int) -> None:
    period = Period(*sorted((one, other)))
    found = cover(period)
    pieces = sorted(piece for piece in (found.days, *found.quarters, *found.rests) if piece.start_us < piece.end_us)
    at = period.start_us
    for low, high in pieces:
        assert low == at
        at = high
    assert at == period.end_us
    assert not any(edge % DAY for edge in found.days) or found.days.start_us == found.days.end_us
    assert not any(edge % QUARTER for quarter in found.quarters for edge in quarter)
    assert all(high - low < QUARTER or period == (low, high) for low, high in found.rests)
    assert sum(high - low for low, high in found.quarters) < 2 * DAY


def test_a_month_of_any_zone_has_no_rest() -> None:
    start = T0 // DAY * DAY + 23 * QUARTER
    found = cover(Period(start, start + 31 * DAY))
    assert (found.rests, len(found.quarters)) == ((), 2)
    assert found.days.end_us - found.days.start_us == 30 * DAY


def test_only_delivered_attempts_count() -> None:
    done = attempt(0, 1, tokens=(9, 3, 5))
    others = [attempt(0, 1, outcome="lost"), attempt(0, None), done._replace(estimated=1, consumer="demo/b")]
    found = counted([done, done, *others])
    assert found == {
        UsageKey("demo", "smollm2", "demo/a"): Usage(2, 18, 6, 10, 0),
        UsageKey("demo", "smollm2", "demo/b"): Usage(1, 9, 3, 5, 5),
    }
    assert rollup_check(found, found).differences == ()
    (difference,) = rollup_check(found, counted([done, *others])).differences
    assert "demo/smollm2, consumer demo/a: the sum is Usage(requests=2" in difference
