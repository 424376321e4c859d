"""How long requests wait in line, from two things that everybody can count: how many wait, and how many come.

What waits in a line that neither grows nor shrinks for long is what comes in the time of one wait (Little's law), so
the wait is the one divided by the other; nobody has to follow single requests through activators that come and go.
After a pause that would be too much: nobody has waited for longer than the line has been there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from zerotide.api.scalars import SECOND

SPAN_US = 10 * SECOND
"""How far back arrivals are counted."""
_STEP_US = SECOND // 2


@dataclass(frozen=True, slots=True)
class Arrivals:
    """Arrivals counted so far, as (time, count) steps, oldest first, and since when somebody waits, if anybody does."""

    steps: tuple[tuple[int, int], ...] = ()
    waiting_us: int | None = None

    @classmethod
    def begun(cls, now_us: int, count: int) -> Self:
        """Begin with a count that was reached before: what exceeds it has come of late."""
        return cls(((now_us - SPAN_US, count),))

    def add(self, now_us: int, count: int, held: int) -> Arrivals:
        """Return what is known with a new count, of which so many wait.

        One that fell, or a clock that did, begins anew: an activator is gone, and what it had counted with it.
        """
        waiting_us = (now_us if self.waiting_us is None else self.waiting_us) if held else None
        steps = self.steps
        if steps and (count < steps[-1][1] or now_us < steps[-1][0]):
            return Arrivals(((now_us, count),), now_us if held else None)
        if len(steps) > 1 and now_us - steps[-2][0] < _STEP_US:
            steps = steps[:-1]  # many in a moment are one step
        steps = (*steps, (now_us, count))
        first = 0
        while first + 2 < len(steps) and steps[first + 1][0] <= now_us - SPAN_US:
            first += 1
        return Arrivals(steps[first:], waiting_us)

    def came(self, now_us: int) -> int:
        """Return how many came in the last `SPAN_US`."""
        (_, before), (_, count) = self.steps[0], self.steps[-1]
        for time_us, number in self.steps:
            if time_us > now_us - SPAN_US:
                break
            before = number
        return count - before

    def wait_us(self, held: int, now_us: int) -> int:
        """Return how long each of those that wait will have waited, if so many do; 0 before anything is known."""
        if not held or self.waiting_us is None:
            return 0
        there = max(now_us - self.waiting_us, 0)
        (since, before), (_, count) = self.steps[0], self.steps[-1]
        if count == before:
            return there
        return min(held * max(now_us - since, 0) // (count - before), there)
