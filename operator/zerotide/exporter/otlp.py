"""Send what `/metrics` shows to an OpenTelemetry collector, as OTLP over HTTP in JSON.

The protocol's own library would bring protobuf, its SDK and a second registry, to say the same few numbers. All values
are cumulative, so what one push could not deliver the next one does.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import aiohttp
from prometheus_client.core import Metric
from prometheus_client.registry import CollectorRegistry

from zerotide import __version__
from zerotide.exporter.errors import PushRefused

log = logging.getLogger(__name__)

PATH = "/v1/metrics"
SERVICE = "zerotide-exporter"
_CUMULATIVE = 2


class Pusher:
    """Push a registry every `interval_s` seconds; an empty `endpoint` pushes nothing. `headers` go with each push."""

    def __init__(
        self,
        endpoint: str,
        headers: Mapping[str, str],
        interval_s: float,
        registry: CollectorRegistry,
        now_us: Callable[[], int],
        resource: Mapping[str, str],
    ) -> None:
        self._url, self._headers, self._interval_s = endpoint + PATH, dict(headers), interval_s
        self._registry, self._now_us, self._resource = registry, now_us, resource
        self._silent = False

    async def run(self) -> None:
        """Push for ever; a collector that does not take it is told of once, until it does."""
        timeout = aiohttp.ClientTimeout(total=30, sock_connect=5)
        async with aiohttp.ClientSession(timeout=timeout, cookie_jar=aiohttp.DummyCookieJar()) as session:
            while True:
                try:
                    await self.push(session)
                    self._silent = False
                except PushRefused as error:
                    level = logging.DEBUG if self._silent else logging.WARNING
                    log.log(level, "metrics not pushed", extra={"url": self._url, "error": str(error)})
                    self._silent = True
                await asyncio.sleep(self._interval_s)

    async def push(self, session: aiohttp.ClientSession) -> None:
        """Push once. Raises PushRefused."""
        body = message(self._registry.collect(), self._now_us(), self._resource)
        try:
            async with session.post(self._url, json=body, headers=self._headers, allow_redirects=False) as answer:
                text = (await answer.text())[:300]
                if answer.status != 200:
                    raise PushRefused(f"the collector answered {answer.status}: {text}")
                told = await answer.json(content_type=None) if text else {}
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise PushRefused(f"{type(error).__name__}: {error}") from error
        partial = told.get("partialSuccess") or {} if isinstance(told, dict) else {}
        if int(partial.get("rejectedDataPoints") or 0):
            raise PushRefused(f"the collector left out {partial['rejectedDataPoints']}: {partial.get('errorMessage')}")


def message(families: Iterable[Metric], now_us: int, resource: Mapping[str, str]) -> dict[str, Any]:
    """Return an ExportMetricsServiceRequest in OTLP's JSON; families of other types than counter and gauge are left
    out."""
    metrics = [_metric(family, str(now_us * 1000)) for family in families if family.type in ("counter", "gauge")]
    about = {"service.name": SERVICE, "service.version": __version__, **resource}
    scope = {"name": "zerotide.exporter", "version": __version__}
    return {
        "resourceMetrics": [
            {
                "resource": {"attributes": _attributes(about)},
                "scopeMetrics": [{"scope": scope, "metrics": [each for each in metrics if each]}],
            }
        ]
    }


def _metric(family: Metric, now_ns: str) -> dict[str, Any] | None:
    points = [
        {"attributes": _attributes(sample.labels), "timeUnixNano": now_ns, "asDouble": float(sample.value)}
        for sample in family.samples
    ]
    if not points:
        return None
    described = {"name": family.name, "description": family.documentation}
    if family.type == "counter":
        return {**described, "sum": {"dataPoints": points, "aggregationTemporality": _CUMULATIVE, "isMonotonic": True}}
    return {**described, "gauge": {"dataPoints": points}}


def _attributes(labels: Mapping[str, str]) -> list[dict[str, Any]]:
    return [{"key": key, "value": {"stringValue": value}} for key, value in labels.items() if value]
