"""What recorded requests foretell is what the operator would have learned from them."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from tests.scaling.prewarm.test_habits import MONDAY, PRICES, WEEK
from zerotide.api.scalars import HOUR, MINUTE, SECOND
from zerotide.scaling.prewarm.forecast import habits_of, week
from zerotide.scaling.prewarm.habits import HOURS, Habits, expected, worth_it

IDLE = 5 * MINUTE


def sessions(weeks: int) -> list[tuple[int, int]]:
    """Return requests at nine and a minute later, on some Mondays."""
    begins = [MONDAY + number * WEEK for number in range(weeks)]
    return [(begin + later * MINUTE, 20 * SECOND) for begin in begins for later in (0, 1)]


def test_only_what_ended_a_long_silence_is_a_habit() -> None:
    """The second request of a session finds it awake; so does one within the idle timeout of a long answer."""
    found = habits_of(sessions(3), IDLE)
    assert [hour.weeks for hour in found.hours.values()] == [3] and found.since_us == MONDAY
    served = [(MONDAY, 2 * HOUR), (MONDAY + HOUR, SECOND), (MONDAY + 2 * HOUR + MINUTE, SECOND)]
    assert len(habits_of(served, IDLE).hours) == 1
    assert habits_of([], IDLE) == Habits(0)


def test_the_coming_week_has_each_habit_once() -> None:
    """In the order of time, also one that is on now and those that are not worth a start."""
    requests = sorted([*sessions(3), *((came + 30 * HOUR, served) for came, served in sessions(3))])
    for later in (0, 5 * HOUR, 40 * HOUR):
        found = week(habits_of(requests, IDLE), PRICES, MONDAY + 2 * WEEK + 90 * MINUTE + later)
        assert [(each.weeks, each.of) for each in found][:1] and len(found) == 2
        assert all(one.start_us < other.start_us for one, other in pairwise(found))
        assert all(worth_it(each, PRICES) for each in found)


@given(
    requests=st.lists(
        st.tuples(st.integers(MONDAY, MONDAY + 5 * WEEK), st.integers(0, 3_600 * SECOND)), max_size=40
    ).map(sorted),
    later=st.integers(0, WEEK),
)
def test_the_next_start_is_the_first_that_is_worth_it(requests: list[tuple[int, int]], later: int) -> None:
    """What the operator would do next is in the forecast, if it does anything within a day."""
    now = MONDAY + 5 * WEEK + later
    habits = habits_of(requests, IDLE)
    found = week(habits, PRICES, now)
    assert len({each.start_us // HOUR for each in found}) <= HOURS
    assert all(now < each.end_us and each.start_us < now + WEEK for each in found)
    following = expected(habits, PRICES, now)
    if following is not None:
        assert following == next(each for each in found if worth_it(each, PRICES))
