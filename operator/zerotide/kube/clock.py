"""A wall clock that never jumps, for stamps that processes exchange."""

from __future__ import annotations

import time


class Clock:
    """Tell the wall time of the process's start plus the monotonic time since, in microseconds."""

    def __init__(self, offset_us: int | None = None) -> None:
        """`offset_us` is that of another process of this machine, whose times are to be comparable."""
        self.offset_us = time.time_ns() // 1000 - time.monotonic_ns() // 1000 if offset_us is None else offset_us

    def now_us(self) -> int:
        """Return microseconds since the Unix epoch; differences are those of the monotonic clock."""
        return self.offset_us + time.monotonic_ns() // 1000

    monotonic = staticmethod(time.monotonic)
    """Return seconds of the monotonic clock; not a method, since every request asks several times."""
