"""Remember how many replicas the load asked for, so that short peaks and dips do not move them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Window:
    """What was wanted over time: (time, replicas) steps, oldest first; each holds until the next."""

    steps: tuple[tuple[int, int], ...] = ()

    @property
    def latest(self) -> int:
        """Return what was wanted last, 0 before anything was."""
        return self.steps[-1][1] if self.steps else 0

    @property
    def latest_us(self) -> int:
        """Return since when that is so, 0 before anything was wanted."""
        return self.steps[-1][0] if self.steps else 0

    def add(self, now_us: int, wanted: int, keep_us: int) -> Window:
        """Return the window with what is wanted now; steps that ended `keep_us` ago are forgotten.

        Where the clock fell the steps go back with it: in a time that is yet to come they would hold everything.
        """
        fall_us = max(self.latest_us - now_us, 0)
        steps = [(time_us - fall_us, number) for time_us, number in self.steps]
        if not steps or steps[-1][1] != wanted:
            steps.append((now_us, wanted))
        first = 0
        while first + 1 < len(steps) and steps[first + 1][0] <= now_us - keep_us:
            first += 1
        return Window(tuple(steps[first:]))

    def moved(self, step_us: int) -> Window:
        """Return the same steps by a clock that was set."""
        return Window(tuple((time_us + step_us, wanted) for time_us, wanted in self.steps))

    def within(self, now_us: int, span_us: int, unknown: int) -> list[int]:
        """Return every number wanted in the last `span_us`, and `unknown` where the window does not reach back."""
        begin = now_us - span_us
        values = [
            wanted
            for index, (_, wanted) in enumerate(self.steps)
            if index + 1 == len(self.steps) or self.steps[index + 1][0] > begin
        ]
        covered = bool(self.steps) and self.steps[0][0] <= begin
        return values if covered else [*values, unknown]

    def next_change_us(self, now_us: int, span_us: int) -> int | None:
        """Return when the oldest number leaves a span of `span_us`, or None if none will."""
        ends = [end for end, _ in self.steps[1:]] + [start for start, _ in self.steps[:1]]
        return min((end + span_us for end in ends if end + span_us > now_us), default=None)
