"""Figures of the usage log: what waits for the exporter, and whether anything is recorded."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from zerotide.activator.usage.backlog import Cause
from zerotide.activator.usage.journal import Journal
from zerotide.api.scalars import SECOND


class UsageFigures(Collector):
    """Render what a journal knows."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def collect(self) -> Iterator[Metric]:
        """Yield every family."""
        waiting, bounds = self._journal.waiting(), self._journal.bounds
        gauges = (
            ("zerotide_usage_backlog_bytes", "Bytes of usage that wait for the exporter.", waiting.bytes),
            ("zerotide_usage_backlog_records", "Usage records that wait for the exporter.", waiting.records),
            ("zerotide_usage_backlog_age_seconds", "Age of the oldest of them.", waiting.age_us / SECOND),
            ("zerotide_usage_backlog_ratio", "How much of the bound met first they take.", waiting.fill(bounds)),
            (
                "zerotide_usage_refused_segments",
                "Segments of usage that the exporter refused whole, and that are kept to be looked at.",
                len(self._journal.refused()),
            ),
        )
        for name, about, value in gauges:
            yield GaugeMetricFamily(name, about, value)
        closed = GaugeMetricFamily(
            "zerotide_usage_closed", "Why usage is not recorded, or has waited for long: 1.", labels=("cause",)
        )
        for cause in Cause:
            closed.add_metric((cause.value,), float(self._journal.closed is cause))
        yield closed
