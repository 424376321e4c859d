"""A wall clock that jumps only where its owner lets it, for stamps that processes exchange."""

from __future__ import annotations

import time
from collections.abc import Callable

SET_US = 500_000
"""By how much the clocks must have parted to call it a step: the two cannot be read at once."""
_READINGS = 5


class Clock:
    """Tell the wall time that was read at the start, or followed since, plus the monotonic time since."""

    def __init__(self, offset_us: int | None = None, *, wall_ns: Callable[[], int] = time.time_ns) -> None:
        """`offset_us` is that of another process of this machine, whose times are to be comparable."""
        self._wall_ns = wall_ns
        self.offset_us = self._offset_us() if offset_us is None else offset_us

    def now_us(self) -> int:
        """Return microseconds since the Unix epoch; differences are those of the monotonic clock."""
        return self.offset_us + time.monotonic_ns() // 1000

    def wall_us(self) -> int:
        """Return what the machine's clock shows, which may jump: for what ends at a time of day."""
        return self._wall_ns() // 1000

    def follow(self) -> int:
        """Take in that the machine's clock was set, and return by how many microseconds; 0 where it was not.

        Both clocks are slewed alike: they part where one is set, and where the machine sleeps, which one leaves out.
        """
        offset_us = self._offset_us()
        step_us = offset_us - self.offset_us
        if abs(step_us) < SET_US:
            return 0
        self.offset_us = offset_us
        return step_us

    def _offset_us(self) -> int:
        """Return by how much the wall clock is ahead, from the reading during which least time passed."""
        readings = []
        for _ in range(_READINGS):
            before, wall, after = time.monotonic_ns(), self._wall_ns(), time.monotonic_ns()
            readings.append((after - before, wall // 1000 - (before + after) // 2000))
        return min(readings)[1]

    monotonic = staticmethod(time.monotonic)
    """Return seconds of the monotonic clock; not a method, since every request asks several times."""
