"""The silences of one endpoint, counted by length in bins that grow by a twelfth: bounded, whatever happens."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from itertools import accumulate

PER_OCTAVE = 8
EDGES = tuple(2 ** (step / PER_OCTAVE) for step in range(17 * PER_OCTAVE + 1))
"""Upper ends of the bins in seconds: from 1 s to 36 h; what is longer is counted in the last one."""
MIDDLES = (0.5, *(edge * 2 ** (-0.5 / PER_OCTAVE) for edge in EDGES[1:]))
MOST = 4_096.0
"""Silences that are remembered; beyond it all counts are halved, so that what was long ago weighs less."""


class Gaps:
    """How many silences of each length there were, and how long they were together."""

    __slots__ = ("counts", "seen", "total_s", "totals")

    def __init__(self, counts: Iterable[tuple[int, float]] = ()) -> None:
        self.counts = [0.0] * len(EDGES)
        self.totals = [0.0] * len(EDGES)
        for index, count in counts:
            if 0 <= index < len(EDGES) and count > 0:
                self.counts[index] += count
                self.totals[index] += count * MIDDLES[index]
        self.seen = sum(self.counts)
        self.total_s = sum(self.totals)

    def add(self, gap_s: float) -> None:
        """Count one silence; a negative one, from a clock that was set back, is none."""
        if gap_s < 0:
            return
        index = min(bisect_left(EDGES, gap_s), len(EDGES) - 1)
        length = min(gap_s, 2 * EDGES[-1])
        self.counts[index] += 1
        self.totals[index] += length
        self.seen += 1
        self.total_s += length
        if self.seen > MOST:
            self._fade()

    def filled(self) -> list[tuple[int, float]]:
        """Return the bins that are not empty with their counts: all that must be kept over a restart."""
        return [(index, count) for index, count in enumerate(self.counts) if count]

    def longer_than(self, seconds: float) -> float:
        """Return how many silences were longer, to the end of the bin in which `seconds` falls."""
        below = list(accumulate(self.counts))
        return self.seen - below[min(bisect_left(EDGES, seconds), len(EDGES) - 1)]

    def _fade(self) -> None:
        # Whole numbers, so that what is kept over a restart is what is counted on with.
        kept = [int(count / 2) for count in self.counts]
        for index, count in enumerate(kept):
            self.totals[index] *= count / self.counts[index] if self.counts[index] else 0.0
            self.counts[index] = float(count)
        self.seen, self.total_s = sum(self.counts), sum(self.totals)
