"""How long requests take, from two things that everybody can count: how many are in flight, and how many have ended.

The time that all of them together spent in flight, over the number of those that ended meanwhile, is what one takes;
nobody has to follow single requests through activators that come and go. Those that leave the line unserved while
nothing is in flight say nothing about it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from zerotide.scaling.demand import Load

ENOUGH = 8
"""Ends from which on the mean is taken for true."""
_MOST = 256
"""Ends at which all is halved, so that what was long ago weighs less."""


@dataclass(frozen=True, slots=True)
class Service:
    """Microseconds in flight and ends so far; `seen` is when, what was in flight and how many were gone, last."""

    busy_us: int = 0
    ended: int = 0
    seen: tuple[int, int, int] | None = None

    def add(self, now_us: int, load: Load) -> Service:
        """Return what is known with the load as it is now.

        Whatever is uncertain teaches nothing: an activator that is missing or begins anew, a clock that falls.
        """
        gone = load.arrivals - load.held - load.in_flight
        seen = None if load.missing else (now_us, load.in_flight, gone)
        if seen is None or self.seen is None:
            return replace(self, seen=seen)
        then_us, flying, before = self.seen
        if not flying or now_us < then_us or gone < before:
            return replace(self, seen=seen)
        busy_us, ended = self.busy_us + flying * (now_us - then_us), self.ended + gone - before
        if ended >= _MOST:
            busy_us, ended = busy_us // 2, ended // 2
        return Service(busy_us, ended, seen)

    @property
    def time_us(self) -> int | None:
        """Return how long a request takes, at least a microsecond; None before enough have ended."""
        return max(self.busy_us // self.ended, 1) if self.ended >= ENOUGH else None
