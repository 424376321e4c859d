"""Counters, gauges and histograms in the Prometheus text format; small, so that nothing is imported for them."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator

DURATION_BUCKETS = tuple(0.0001 * 1.5**k for k in range(35))
COUNT_BUCKETS = tuple(float(2**k) for k in range(15))

Labels = tuple[tuple[str, str], ...]


def _series(name: str, labels: Labels, value: float) -> str:
    inside = ",".join(f'{key}="{text}"' for key, text in labels)
    shown = repr(value) if value % 1 else str(int(value))
    return f"{name}{{{inside}}} {shown}\n" if inside else f"{name} {shown}\n"


class Counter:
    """A number that only grows, per set of labels."""

    kind = "counter"

    def __init__(self, name: str, *labels: str) -> None:
        self.name = name
        self._labels = labels
        # Without labels there is one series, and it is there from the start.
        self._values: dict[Labels, float] = {} if labels else {(): 0.0}

    def add(self, *values: str, amount: float = 1.0) -> None:
        """Grow the series with these label values."""
        key = tuple(zip(self._labels, values, strict=True))
        self._values[key] = self._values.get(key, 0.0) + amount

    def lines(self) -> Iterator[str]:
        """Return the series as text."""
        for labels, value in self._values.items():
            yield _series(self.name, labels, value)


class Gauge:
    """Numbers that are read when they are asked for; `read` returns pairs of labels and value."""

    kind = "gauge"

    def __init__(self, name: str, read: Callable[[], list[tuple[Labels, float]]]) -> None:
        self.name = name
        self._read = read

    def lines(self) -> Iterator[str]:
        """Return the series as text."""
        for labels, value in self._read():
            yield _series(self.name, labels, value)


class Histogram:
    """Observations by size, per set of labels."""

    kind = "histogram"

    def __init__(self, name: str, *labels: str, buckets: tuple[float, ...] = DURATION_BUCKETS) -> None:
        self.name = name
        self._labels = labels
        self._buckets = buckets
        self._counts: dict[Labels, list[int]] = {} if labels else {(): [0] * (len(buckets) + 1)}
        self._sums: dict[Labels, float] = {}

    def observe(self, size: float, *values: str) -> None:
        """Count one observation."""
        key = tuple(zip(self._labels, values, strict=True))
        counts = self._counts.setdefault(key, [0] * (len(self._buckets) + 1))
        counts[bisect_left(self._buckets, size)] += 1
        self._sums[key] = self._sums.get(key, 0.0) + size

    def lines(self) -> Iterator[str]:
        """Return the series as text."""
        for labels, counts in self._counts.items():
            total = 0
            for bound, count in zip((*map("{:.6g}".format, self._buckets), "+Inf"), counts, strict=True):
                total += count
                yield _series(f"{self.name}_bucket", (*labels, ("le", bound)), total)
            yield _series(f"{self.name}_sum", labels, self._sums.get(labels, 0.0))
            yield _series(f"{self.name}_count", labels, total)


Metric = Counter | Gauge | Histogram


def render(metrics: list[Metric]) -> bytes:
    """Return all metrics as one page."""
    parts = []
    for metric in metrics:
        parts.append(f"# TYPE {metric.name} {metric.kind}\n")
        parts.extend(metric.lines())
    return "".join(parts).encode()
