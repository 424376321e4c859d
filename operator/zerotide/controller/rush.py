"""How many endpoints start at once, and how long news of them may wait: the API server makes their pods first.

A write of a status costs it as much as making a pod. Where few start, it has room for both; where hundreds do, every
status that is written before the last pod is there keeps somebody waiting.
"""

from __future__ import annotations

from zerotide.api.scalars import MILLISECOND, MINUTE, SECOND

FEW = 8
"""Starts that are no rush."""
EACH_US = 30 * MILLISECOND
"""What a start takes of an API server with two cores."""
MOST_US = 30 * SECOND
LONG_US = MINUTE
"""A start that takes longer waits for something else."""


class Rush:
    """The starts in progress, by key, since when."""

    def __init__(self) -> None:
        self._began: dict[str, int] = {}

    def began(self, key: str, now_us: int) -> None:
        """Note that an endpoint starts."""
        self._began.pop(key, None)
        self._began[key] = now_us

    def over(self, key: str) -> None:
        """Note that one does not, or no longer."""
        self._began.pop(key, None)

    def stepped(self, step_us: int) -> None:
        """Move the starts along with a clock that was set."""
        self._began = {key: began_us + step_us for key, began_us in self._began.items()}

    def wait_us(self, now_us: int) -> int:
        """Return how long what nobody waits for should wait."""
        while self._began and (oldest := next(iter(self._began))) and self._began[oldest] + LONG_US <= now_us:
            del self._began[oldest]
        return min(max(len(self._began) - FEW, 0) * EACH_US, MOST_US)
