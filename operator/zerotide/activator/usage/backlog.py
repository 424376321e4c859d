"""How much usage waits for the exporter, and when that is too much: pure, told the time and what was written.

At its bound a log takes no more, so that an exporter that is away costs a bounded part of the disk. Age is no reason
to lose a record that there is room for: it only ends the credit of endpoints that want to serve nothing unbilled.
"""

from __future__ import annotations

from collections import deque
from enum import StrEnum
from typing import NamedTuple

REOPEN = 90
"""Percent of a bound below which a log that was closed opens again, so that it does not close with every batch."""
MARKS = 100
"""Parts of the longest age by which ages are told apart."""


class Cause(StrEnum):
    """Why usage cannot be recorded, or not for certain."""

    UNWRITABLE = "unwritable"
    """The disk takes nothing: it is full, read-only or broken."""
    BYTES = "bytes"
    RECORDS = "records"
    AGE = "age"
    """The exporter has taken nothing for long; records are still written."""

    @property
    def loses(self) -> bool:
        """Tell whether records are not written."""
        return self is not Cause.AGE


class Bounds(NamedTuple):
    """The most that may wait."""

    bytes: int = 768 * 1024**2
    records: int = 2_000_000
    age_us: int = 3600 * 1_000_000


class Waiting(NamedTuple):
    """What waits: `age_us` is how long the oldest record has, 0 where there is none."""

    bytes: int
    records: int
    age_us: int

    def fill(self, bounds: Bounds) -> float:
        """Return how much of the bound that is met first is taken: 1.0 is all of it."""
        return max(mine / most for mine, most in zip(self, bounds, strict=True))


def closed_by(waiting: Waiting, bounds: Bounds, *, writable: bool, before: Cause | None) -> Cause | None:
    """Return what closes a log, None where it is open; `before` is what did until now."""
    if not writable:
        return Cause.UNWRITABLE
    for cause, mine, most in zip((Cause.BYTES, Cause.RECORDS, Cause.AGE), waiting, bounds, strict=True):
        if mine >= most or (before is cause and mine * 100 > most * REOPEN):
            return cause
    return None


class Backlog:
    """Count what was written and what of it the exporter has, oldest first."""

    def __init__(self, longest_age_us: int) -> None:
        self._step = max(longest_age_us // MARKS, 1)
        self.bytes = self.records = 0
        self._written = self._taken = 0
        self._marks: deque[tuple[int, int]] = deque()
        """Where in all that was written a record begins, and when it was written; none is further apart than a step."""

    def wrote(self, size: int, records: int, now_us: int) -> None:
        """Count records that were written."""
        if not self._marks or now_us >= self._marks[-1][1] + self._step:
            self._marks.append((self._written, now_us))
        self._written += size
        self.bytes += size
        self.records += records

    def taken(self, size: int, records: int) -> None:
        """Count the oldest ones no longer; more than there are is harmless, since a batch may be sent twice."""
        size = min(size, self.bytes)
        self._taken += size
        self.bytes -= size
        self.records = max(self.records - records, 0) if self.bytes else 0
        while self._marks and (not self.bytes or (len(self._marks) > 1 and self._marks[1][0] <= self._taken)):
            self._marks.popleft()

    def waiting(self, now_us: int) -> Waiting:
        """Return what waits now."""
        age = max(now_us - self._marks[0][1], 0) if self._marks else 0
        return Waiting(self.bytes, self.records, age)
