"""How long requests wait, from how many come and how many wait."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from zerotide.api.scalars import SECOND
from zerotide.scaling.arrivals import SPAN_US, Arrivals

NOW = 1_790_000_000 * SECOND


def steady(per_second: int, held: int, seconds: int = 30) -> Arrivals:
    """Return what is known after a while of a steady load with a line that stays."""
    known = Arrivals()
    for second in range(seconds + 1):
        known = known.add(NOW + second * SECOND, second * per_second, held)
    return known


def test_a_line_that_stays_is_waited_in_for_its_length_by_the_rate() -> None:
    """Little's law, over the last ten seconds."""
    assert steady(10, 5).wait_us(5, NOW + 30 * SECOND) == SECOND // 2
    assert steady(1, 5).wait_us(5, NOW + 30 * SECOND) == 5 * SECOND
    assert steady(10, 0).wait_us(0, NOW + 30 * SECOND) == 0
    assert len(steady(10, 5, 600).steps) < 15, "no more is kept than is read"


def test_nobody_waits_for_longer_than_the_line_is_there() -> None:
    """Three that come at once after a pause have waited for no time yet; one that comes no more, for all of it."""
    known = steady(0, 0).add(NOW + 31 * SECOND, 3, 3)
    assert known.wait_us(3, NOW + 31 * SECOND) == 0
    assert known.wait_us(3, NOW + 31 * SECOND + 100_000) == 100_000
    later = known.add(NOW + 60 * SECOND, 3, 3)
    assert later.wait_us(3, NOW + 61 * SECOND) == 30 * SECOND
    assert later.add(NOW + 62 * SECOND, 3, 0).waiting_us is None


def test_many_in_a_moment_are_one_step() -> None:
    """However many lines the streams bring."""
    known = Arrivals()
    for number in range(1000):
        known = known.add(NOW + number * 1000, number, 1)
    assert len(known.steps) <= 4 and known.steps[-1][1] == 999


@given(
    events=st.lists(st.tuples(st.integers(-20, 20), st.integers(-5, 50), st.integers(0, 9)), min_size=1, max_size=40)
)
def test_clocks_and_counts_may_fall(events: list[tuple[int, int, int]]) -> None:
    """An activator that is gone takes its counts with it, and clocks are put right: never less than no wait."""
    known, now, count = Arrivals(), NOW, 0
    for seconds, more, held in events:
        now, count = now + seconds * SECOND, max(count + more, 0)
        known = known.add(now, count, held)
        assert 0 <= known.wait_us(held, now) <= max(now - (known.waiting_us or now), 0)
        assert known.steps[-1] == (now, count)
        assert len(known.steps) <= 2 + 2 * SPAN_US // SECOND + 1
