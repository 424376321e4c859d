"""What an endpoint's own requests foretell: the hours of the coming week at which they will wake it again."""

from __future__ import annotations

from collections.abc import Iterable

from zerotide.api.scalars import HOUR
from zerotide.scaling.prewarm.habits import HOURS, Expected, Habits, Prices, coming


def habits_of(requests: Iterable[tuple[int, int]], idle_us: int) -> Habits:
    """Return the habits behind requests, each when it came and how long it was served, in the order in which they came.

    As the operator learns them: from the first one on, by each that ended a silence longer than the idle timeout.
    """
    habits, quiet_us = None, 0
    for came_us, served_us in requests:
        if habits is None:
            habits = Habits(came_us)
        if came_us - quiet_us >= idle_us:
            habits = habits.woken(came_us)
        quiet_us = max(quiet_us, came_us + served_us)
    return habits or Habits(0)


def week(habits: Habits, prices: Prices, now_us: int) -> tuple[Expected, ...]:
    """Return each habit of the coming week once, in the order of time."""
    until_us = now_us + HOURS * HOUR
    return tuple(found for found in coming(habits, prices, now_us, HOURS) if found.start_us < until_us)
