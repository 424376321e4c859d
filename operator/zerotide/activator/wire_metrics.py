"""Figures of the wire: connections, and what clients met at its limits."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from zerotide.activator.wire import Certificate, Door


class WireFigures(Collector):
    """Render what the door and the certificate count."""

    def __init__(self, door: Door, buffered: Callable[[], int], certificate: Certificate | None = None) -> None:
        self._door, self._buffered, self._certificate = door, buffered, certificate

    def collect(self) -> Iterator[Metric]:
        """Yield every family."""
        door = self._door
        yield GaugeMetricFamily("zerotide_connections", "Client connections that are open.", door.open)
        yield CounterMetricFamily("zerotide_connections_accepted", "Client connections taken.", door.accepted)
        rejected = CounterMetricFamily(
            "zerotide_connections_rejected", "Client connections closed before any request.", labels=("reason",)
        )
        faults = CounterMetricFamily(
            "zerotide_client_faults",
            "Requests and connections that met a limit or were no HTTP.",
            labels=("reason",),
        )
        for family, counts in ((rejected, door.rejected), (faults, door.faults)):
            for reason, count in counts.items():
                family.add_metric((reason,), count)
            yield family
        yield GaugeMetricFamily("zerotide_body_memory_bytes", "Request bodies in memory.", self._buffered())
        if self._certificate is not None:
            loads = CounterMetricFamily(
                "zerotide_tls_certificate_loads", "Certificates read from their files.", labels=("outcome",)
            )
            loads.add_metric(("loaded",), self._certificate.loaded)
            loads.add_metric(("failed",), self._certificate.failed)
            yield loads
