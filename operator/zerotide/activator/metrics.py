"""Figures of the data plane, in the names of the user contract; rendered when somebody scrapes.

Observing is a few additions, since it happens for every request. Series are born at an endpoint's first request,
dropped after an idle hour, and bounded in number: what does not fit is counted as `_other`.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector, CollectorRegistry

from zerotide import __version__
from zerotide.activator.exposition import END, pieces

BUCKETS = tuple(0.01 * 2**k for k in range(17))
IDLE = 3600.0
CHUNK = 25
"""Endpoints that are rendered at one go."""
OTHER = ("_other", "_other")
LABELS = ("namespace", "inference_endpoint")


class Histogram:
    """Counts of durations in seconds."""

    __slots__ = ("counts", "total")

    def __init__(self) -> None:
        self.counts = [0] * (len(BUCKETS) + 1)
        self.total = 0.0

    def observe(self, seconds: float) -> None:
        """Count a duration."""
        self.counts[bisect_left(BUCKETS, seconds)] += 1
        self.total += seconds

    def buckets(self) -> list[tuple[str, float]]:
        """Return cumulative counts, as Prometheus has them."""
        result, running = [], 0
        for bound, count in zip((*(f"{bound:g}" for bound in BUCKETS), "+Inf"), self.counts, strict=True):
            running += count
            result.append((bound, float(running)))
        return result


class Series:
    """The figures of one endpoint."""

    __slots__ = (
        "duration",
        "ejections",
        "fallbacks",
        "first_byte",
        "hold",
        "last",
        "rejected",
        "requests",
        "retries",
        "unrecorded",
    )

    def __init__(self) -> None:
        self.requests: Counter[tuple[str, str]] = Counter()
        self.rejected: Counter[str] = Counter()
        self.ejections: Counter[str] = Counter()
        self.fallbacks: Counter[str] = Counter()
        self.duration = {"true": Histogram(), "false": Histogram()}
        self.first_byte = {"true": Histogram(), "false": Histogram()}
        self.hold = Histogram()
        self.retries = 0
        self.unrecorded = 0
        self.last = 0.0


# Name, meaning, labels beside those of the endpoint, and what a series has of it.
COUNTERS: tuple[tuple[str, str, tuple[str, ...], Callable[[Series], Iterable[tuple[tuple[str, ...], int]]]], ...] = (
    ("zerotide_requests", "Requests by HTTP status.", ("code", "cold"), lambda series: series.requests.items()),
    (
        "zerotide_requests_rejected",
        "Requests answered by the gateway, by error code.",
        ("code",),
        lambda series: (((code,), count) for code, count in series.rejected.items()),
    ),
    (
        "zerotide_upstream_retries",
        "Requests sent to a second replica.",
        (),
        lambda series: (((), series.retries),),
    ),
    (
        "zerotide_requests_unrecorded",
        "Attempts that were served and are not billed, since the usage log took no record of them.",
        (),
        lambda series: (((), series.unrecorded),),
    ),
    (
        "zerotide_fallbacks",
        "Requests that an endpoint's fallback served in its place, by why.",
        ("cause",),
        lambda series: (((cause,), count) for cause, count in series.fallbacks.items()),
    ),
    (
        "zerotide_replica_ejections",
        "Replicas that got nothing for a while since they failed, by how they did.",
        ("failure",),
        lambda series: (((failure,), count) for failure, count in series.ejections.items()),
    ),
)
HISTOGRAMS: tuple[
    tuple[str, str, tuple[str, ...], Callable[[Series], Iterable[tuple[tuple[str, ...], Histogram]]]], ...
] = (
    (
        "zerotide_request_duration_seconds",
        "From arrival to last byte.",
        ("cold",),
        lambda series: (((cold,), each) for cold, each in series.duration.items()),
    ),
    (
        "zerotide_time_to_first_byte_seconds",
        "From arrival to the answer's first byte.",
        ("cold",),
        lambda series: (((cold,), each) for cold, each in series.first_byte.items()),
    ),
    ("zerotide_hold_seconds", "Time for which requests were held.", (), lambda series: (((), series.hold),)),
)


class Load(NamedTuple):
    """An endpoint's figures at the time of a scrape."""

    namespace: str
    name: str
    held: int
    held_bytes: int
    in_flight: int


class Metrics(Collector):
    """All series, by namespace and endpoint."""

    def __init__(self, now: Callable[[], float], max_endpoints: int = 1000) -> None:
        self._now, self._max = now, max_endpoints
        self._series: dict[tuple[str, str], Series] = {}
        self.loads: Callable[[], Iterable[Load]] = tuple
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)

    def add(self, collector: Collector) -> None:
        """Put figures of somebody else on the page."""
        self._registry.register(collector)

    def of(self, namespace: str, name: str) -> Series:
        """Return the series of an endpoint, or those of all others where there are too many."""
        key = (namespace, name)
        series = self._series.get(key)
        if series is None:
            key = key if len(self._series) < self._max else OTHER
            series = self._series.setdefault(key, Series())
        series.last = self._now()
        return series

    def render(self) -> tuple[bytes, str]:
        """Return the page of all figures and its media type."""
        return "".join(self._pieces()).encode(), CONTENT_TYPE_LATEST

    async def render_gently(self) -> tuple[bytes, str]:
        """Do the same, and let others have their turn every few milliseconds."""
        text = []
        for piece in self._pieces():
            text.append(piece)
            await asyncio.sleep(0)
        return "".join(text).encode(), CONTENT_TYPE_LATEST

    def _pieces(self) -> Iterator[str]:
        for load in self.loads():
            if load.held or load.in_flight:  # the first request may be held for minutes, and a stream go on for hours
                self.of(load.namespace, load.name)
        horizon = self._now() - IDLE
        self._series = {key: series for key, series in self._series.items() if series.last > horizon}
        yield from pieces(self._registry.collect())
        yield END

    def collect(self) -> Iterator[Metric]:
        """Yield every family."""
        yield from self._counters()
        yield from self._histograms()
        yield from self._gauges()
        build = GaugeMetricFamily("zerotide_build_info", "The version that runs.", labels=("version", "component"))
        build.add_metric((__version__, "activator"), 1)
        yield build

    def _counters(self) -> Iterator[Metric]:
        for name, about, more, samples in COUNTERS:
            for chunk in self._chunks():
                family = CounterMetricFamily(name, about, labels=(*LABELS, *more))
                for key, series in chunk:
                    for values, count in samples(series):
                        family.add_metric((*key, *values), count)
                yield family

    def _histograms(self) -> Iterator[Metric]:
        for name, about, more, samples in HISTOGRAMS:
            for chunk in self._chunks():
                family = HistogramMetricFamily(name, about, labels=(*LABELS, *more))
                for key, series in chunk:
                    for values, histogram in samples(series):
                        family.add_metric((*key, *values), histogram.buckets(), histogram.total)
                yield family

    def _gauges(self) -> Iterator[Metric]:
        held = GaugeMetricFamily("zerotide_held_requests", "Requests that are held.", labels=LABELS)
        size = GaugeMetricFamily("zerotide_held_bytes", "Bytes of their bodies.", labels=LABELS)
        in_flight = GaugeMetricFamily("zerotide_in_flight_requests", "Requests that a replica serves.", labels=LABELS)
        for load in self.loads():
            key = (load.namespace, load.name)
            if key in self._series:
                held.add_metric(key, load.held)
                size.add_metric(key, load.held_bytes)
                in_flight.add_metric(key, load.in_flight)
        yield from (held, size, in_flight)

    def _chunks(self) -> Iterator[list[tuple[tuple[str, str], Series]]]:
        """Yield the series some at a time; once at least, so that every family is named."""
        items = list(self._series.items())
        for start in range(0, max(len(items), 1), CHUNK):
            yield items[start : start + CHUNK]
