"""What hours of the week foretell."""

from __future__ import annotations

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from zerotide.api.scalars import HOUR, MINUTE, SECOND
from zerotide.scaling.prewarm.habits import HOURS, WEEKS, Habits, Prices, expected, read

WEEK = HOURS * HOUR
MONDAY = int(datetime(2026, 11, 2, 9, 0, tzinfo=UTC).timestamp()) * SECOND
"""Nine o'clock."""
PRICES = Prices(lead_us=5 * MINUTE, worth_us=HOUR, idle_us=5 * MINUTE)


def mondays(weeks: int, minutes: tuple[int, ...] = (0,)) -> Habits:
    """Return the habits after requests at nine of some Mondays, each so many minutes later."""
    habits = Habits(MONDAY - WEEK)
    for week in range(weeks):
        habits = habits.woken(MONDAY + week * WEEK + minutes[week % len(minutes)] * MINUTE)
    return habits


def test_requests_at_nine_find_a_replica_that_started_at_five_to() -> None:
    """From the third Monday on, by the time that a cold start takes; two days before nothing is foretold."""
    third = MONDAY + 2 * WEEK
    assert expected(mondays(1), PRICES, MONDAY + WEEK - HOUR) is None
    found = expected(mondays(2), PRICES, third - HOUR)
    assert found is not None and (found.from_us, found.start_us) == (third - 5 * MINUTE, third)
    assert (found.end_us, found.weeks, found.of) == (third + MINUTE, 2, 2)
    assert found.most_us == 10 * MINUTE, "the lead, and the idle timeout that is longer than the window"
    assert expected(mondays(2), PRICES, third + MINUTE) is None
    assert expected(mondays(2), PRICES, third - 48 * HOUR) is None


def test_what_varies_widens_the_window() -> None:
    """From the earliest to the latest minute; ten to nine and ten past are the same hour."""
    found = expected(mondays(3, (-10, 10, 0)), PRICES, MONDAY + 3 * WEEK - HOUR)
    assert found is not None
    start = MONDAY + 3 * WEEK
    assert (found.start_us, found.end_us) == (start - 10 * MINUTE, start + 11 * MINUTE)


def test_a_start_that_costs_more_than_it_saves_is_not_made() -> None:
    """A short wait is worth no idle time, and a habit that was given up no start."""
    assert expected(mondays(3), Prices(5 * MINUTE, MINUTE, 5 * MINUTE), MONDAY + 3 * WEEK - HOUR) is None
    assert expected(mondays(2), PRICES, MONDAY + 4 * WEEK - HOUR) is not None
    assert expected(mondays(2), Prices(5 * MINUTE, 12 * MINUTE, 5 * MINUTE), MONDAY + 7 * WEEK - HOUR) is None


def test_what_was_long_ago_is_forgotten() -> None:
    """Half of it after eight weeks, and what was seen once altogether."""
    habits = mondays(WEEKS).woken(MONDAY + (WEEKS + 2) * WEEK + 5 * HOUR)
    assert habits.since_us > MONDAY
    nine = habits.hours[(MONDAY + HOUR // 2) // HOUR % HOURS]
    assert nine.weeks == WEEKS // 2


@given(
    gaps=st.lists(st.integers(0, 3 * WEEK // MINUTE), max_size=60),
    lead=st.integers(0, HOUR),
    worth=st.integers(0, 12 * HOUR),
    idle=st.integers(0, HOUR),
    later=st.integers(0, 2 * WEEK),
)
def test_laws(gaps: list[int], lead: int, worth: int, idle: int, later: int) -> None:
    """Of any past: memory is bounded and outlives a restart, and what is foretold is ahead, likely and worth it."""
    habits, now = Habits(MONDAY), MONDAY
    for gap in gaps:
        now += gap * MINUTE
        habits = habits.woken(now)
    assert len(habits.hours) <= HOURS and len(habits.written()) <= 2_048
    assert dict(read(habits.written(), habits.since_us).hours) == dict(habits.hours)
    found = expected(habits, Prices(lead, worth, idle), now + later)
    if found is not None:
        assert now + later < found.end_us and found.start_us < found.end_us <= found.start_us + HOUR
        assert found.from_us == found.start_us - lead and found.most_us >= found.end_us - found.from_us
        assert 0 < found.confidence <= 1 and found.weeks >= 2
        assert worth * found.confidence > (1 - found.confidence) * found.most_us


def test_a_text_that_somebody_edited() -> None:
    """Only what can be an hour counts."""
    assert dict(read("3:2:0:59 168:2:0:1 4:2:9:8 x 5:2:1 6:1:0:60", 0).hours).keys() == {3}
