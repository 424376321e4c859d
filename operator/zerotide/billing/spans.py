"""Half-open spans [start, end) of microseconds: union, intersection, clipping."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple


class Span(NamedTuple):
    """A half-open interval of microseconds since the epoch."""

    start_us: int
    end_us: int

    @property
    def length_us(self) -> int:
        """Return the length in microseconds."""
        return self.end_us - self.start_us


def union(spans: Iterable[Span]) -> list[Span]:
    """Return the disjoint, ascending spans that cover the same instants; empty and reversed ones cover none."""
    merged: list[Span] = []
    for span in sorted(spans):
        if span.end_us <= span.start_us:
            continue
        if merged and span.start_us <= merged[-1].end_us:
            if span.end_us > merged[-1].end_us:
                merged[-1] = Span(merged[-1].start_us, span.end_us)
        else:
            merged.append(Span(*span))
    return merged


def clip(spans: Iterable[Span], start_us: int, end_us: int) -> Iterator[Span]:
    """Yield what of each span lies in [start, end)."""
    for span in spans:
        low, high = span
        if start_us <= low < high <= end_us:
            yield span
        elif (low := max(low, start_us)) < (high := min(high, end_us)):
            yield Span(low, high)


def total_us(spans: Iterable[Span]) -> int:
    """Return the sum of the lengths."""
    return sum(span.end_us - span.start_us for span in spans)
