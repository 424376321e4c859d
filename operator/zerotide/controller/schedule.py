"""Which key is worked on next: dedupe, priority, delay, back-off; without a clock and without tasks of its own.

A key is in one place at a time: ready, delayed, or running. A key that is added while it runs, runs again after.
Taking a key forgets its delay, because working on it sets a new one.
"""

from __future__ import annotations

import heapq
import math
from enum import IntEnum


class Priority(IntEnum):
    """What goes first: a client waits for a wake, nobody waits for a sweep."""

    WAKE = 0
    CHANGE = 1
    SWEEP = 2


class Schedule:
    """Keys that wait to be worked on; times in seconds of any clock that only grows."""

    def __init__(self, *, first_backoff: float = 0.5, longest_backoff: float = 300.0) -> None:
        self._ready: list[tuple[Priority, int, str]] = []
        self._delayed: list[tuple[float, int, str]] = []
        self._waiting: dict[str, Priority] = {}
        self._due: dict[str, float] = {}
        self._running: set[str] = set()
        self._again: dict[str, Priority] = {}
        self._failures: dict[str, tuple[int, float]] = {}
        """How often a key failed in a row, and until when it waits for that."""
        self._sequence = 0
        self._first, self._longest = first_backoff, longest_backoff

    def __len__(self) -> int:
        """Return how many keys are ready; those that are delayed or running do not count."""
        return len(self._waiting)

    def add(self, key: str, priority: Priority = Priority.CHANGE) -> None:
        """Make a key ready, or ready sooner; if it runs now, it runs again."""
        if key in self._running:
            self._again[key] = min(priority, self._again.get(key, priority))
        elif self._waiting.get(key, Priority.SWEEP + 1) > priority:
            self._waiting[key] = priority
            heapq.heappush(self._ready, (priority, self._next(), key))

    def add_at(self, key: str, due: float) -> None:
        """Make a key ready at a time, unless it is due sooner already."""
        if due < self._due.get(key, float("inf")):
            self._due[key] = due
            heapq.heappush(self._delayed, (due, self._next(), key))

    def take(self, now: float) -> str | None:
        """Return the next key to work on, or None if none is ready; `done` must follow."""
        self._promote(now)
        while self._ready:
            priority, _, key = heapq.heappop(self._ready)
            if self._waiting.get(key) != priority:
                continue  # it was made ready again with a higher priority, or forgotten
            del self._waiting[key]
            self._due.pop(key, None)
            self._running.add(key)
            return key
        return None

    def done(self, key: str) -> None:
        """Note that the work on a key has ended."""
        self._running.discard(key)
        again = self._again.pop(key, None)
        if again is not None:
            self.add(key, again)

    def succeeded(self, key: str) -> None:
        """Forget the failures of a key."""
        self._failures.pop(key, None)

    def failed(self, key: str, now: float, *, share: float = 1.0, longest: float = math.inf) -> float:
        """Count a failure and return the seconds to wait: doubled each time, up to a limit; a `share` of them.

        Where news called for a try before the wait was over, it goes on: a burst of changes is not a row of failures.
        """
        count, until = self._failures.get(key, (0, now))
        seconds = float(min(self._first * 2 ** min(count, 30), self._longest, longest)) * share
        if now < until:
            seconds = min(seconds, until - now)
        else:
            count += 1
        self._failures[key] = count, now + seconds
        return seconds

    def forget(self, key: str) -> None:
        """Drop a key that is gone; if it runs now, it does not run again."""
        for table in (self._waiting, self._due, self._again, self._failures):
            table.pop(key, None)

    def next_due(self) -> float | None:
        """Return when the next delayed key becomes ready, or None."""
        while self._delayed and self._due.get(self._delayed[0][2]) != self._delayed[0][0]:
            heapq.heappop(self._delayed)
        return self._delayed[0][0] if self._delayed else None

    def _promote(self, now: float) -> None:
        while (due := self.next_due()) is not None and due <= now:
            _, _, key = heapq.heappop(self._delayed)
            del self._due[key]
            self.add(key)

    def _next(self) -> int:
        self._sequence += 1
        return self._sequence
