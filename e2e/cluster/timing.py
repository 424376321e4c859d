"""Say where the time went."""

from __future__ import annotations

import time
from collections.abc import Callable


class Stages:
    """Stamp the end of each stage, and say it with its duration and the time since the start."""

    def __init__(self, say: Callable[[str], None] = print) -> None:
        self._say = say
        self._start = self._last = time.monotonic()
        self.durations: dict[str, float] = {}

    def done(self, stage: str) -> None:
        """Mark the end of a stage."""
        now = time.monotonic()
        self.durations[stage] = now - self._last
        self._say(f"  {now - self._start:5.1f} s  {stage} (+{now - self._last:.1f} s)")
        self._last = now

    @property
    def total(self) -> float:
        """Return the seconds since the start."""
        return self._last - self._start
