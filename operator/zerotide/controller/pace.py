"""Spread writes over time: a change of the activators concerns every endpoint at once."""

from __future__ import annotations

import time
from collections.abc import Callable


class Pace:
    """At most `rate` writes a second, with a burst of a tenth of a second's worth."""

    def __init__(self, rate: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._step, self._clock = 1.0 / rate, clock
        self._free = float("-inf")

    def delay(self) -> float:
        """Take the next place and return the seconds until it comes."""
        now = self._clock()
        self._free = max(self._free + self._step, now - 0.1)
        return max(0.0, self._free - now)
