"""Metrics sent to an OpenTelemetry collector: a real one understands them, and none is no harm."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer, unused_port

from e2e.harness import wait_until
from e2e.tools.build import ensure
from zerotide.exporter.errors import PushRefused
from zerotide.exporter.metrics import LedgerCollector, registry
from zerotide.exporter.otlp import Pusher, message
from zerotide.exporter.store import Series

NOW_US = 1_795_640_424_123_456
SERIES: dict[Series, Fraction] = {
    ("gpu_seconds", ("demo", "smollm2", "active", "nvidia-l4")): Fraction(1, 4),
    ("cost", ("demo", "smollm2", "USD", "active")): Fraction(1, 8),
    ("cost", ("demo", "smollm2", "USD", "loading")): Fraction(3),
}
CONFIG = """
receivers: {otlp: {protocols: {http: {endpoint: "127.0.0.1:%d"}}}}
exporters: {debug: {verbosity: detailed}}
service:
  pipelines: {metrics: {receivers: [otlp], exporters: [debug]}}
  telemetry: {metrics: {level: none}}
"""


def shown() -> Any:
    """Return the registry of an exporter."""
    collector = LedgerCollector({"zerotide_ledger_lag_seconds": ("Age.", lambda: 1.5)})
    collector.publish(SERIES)
    return registry(collector)


def pusher(endpoint: str, interval_s: float = 60) -> Pusher:
    """Return what pushes that registry."""
    return Pusher(endpoint, {"X-Scope": "ours"}, interval_s, shown(), lambda: NOW_US, {"k8s.cluster.name": "c1"})


async def push(endpoint: str) -> None:
    """Push once."""
    async with aiohttp.ClientSession() as session:
        await pusher(endpoint).push(session)


@pytest.fixture
def collector(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """Run a real collector; give its address and the file of what it took."""
    program, port, told = ensure(["otelcol"])["otelcol"] / "otelcol", unused_port(), tmp_path / "told"
    with told.open("wb") as out:
        running = subprocess.Popen([program, "--config", f"yaml:{CONFIG % port}"], stdout=out, stderr=out)
    try:
        wait_until("it is ready", lambda: "Everything is ready" in told.read_text(), 30)
        yield f"http://127.0.0.1:{port}", told
    finally:
        running.terminate()
        running.wait(10)


@pytest.mark.soak  # the collector is built by version, which takes a minute or two, once
def test_a_real_collector_takes_counters_and_gauges_as_what_they_are(collector: tuple[str, Path]) -> None:
    endpoint, told = collector
    asyncio.run(push(endpoint))
    # It writes what it took in one go, and names the metrics in their order.
    wait_until("all is written", lambda: "zerotide_build_info" in told.read_text(), 10)
    text = told.read_text()
    assert "service.name: Str(zerotide-exporter)" in text and "k8s.cluster.name: Str(c1)" in text
    found = {part.split("\n", 1)[0]: part for part in re.split(r"-> Name: ", text)[1:]}
    cost = found["zerotide_cost"]
    assert "DataType: Sum" in cost and "IsMonotonic: true" in cost and "AggregationTemporality: Cumulative" in cost
    assert sorted(re.findall(r"Value: ([0-9.]+)", cost)) == ["0.125000", "3.000000"]
    assert "phase: Str(loading)" in cost and "currency: Str(USD)" in cost
    assert "Timestamp: 2026-11-25 21:00:24.123456" in cost
    lag = found["zerotide_ledger_lag_seconds"]
    assert "DataType: Gauge" in lag and "Value: 1.500000" in lag
    assert "zerotide_tokens" not in found, "what has no series yet says nothing"


def test_the_message_is_the_protocol_s_json() -> None:
    """As the real collector took it: times are strings of nanoseconds, enums are numbers, no series is no metric."""
    made = message(shown().collect(), NOW_US, {"k8s.cluster.name": "c1"})
    (of_resource,) = made["resourceMetrics"]
    attributes = {each["key"]: each["value"] for each in of_resource["resource"]["attributes"]}
    assert attributes["k8s.cluster.name"] == {"stringValue": "c1"}
    (scope,) = of_resource["scopeMetrics"]
    metrics = {each["name"]: each for each in scope["metrics"]}
    assert set(metrics) == {
        "zerotide_gpu_seconds",
        "zerotide_cost",
        "zerotide_ledger_lag_seconds",
        "zerotide_build_info",
    }
    assert metrics["zerotide_gpu_seconds"]["sum"] == {
        "dataPoints": [
            {
                "attributes": [
                    {"key": "namespace", "value": {"stringValue": "demo"}},
                    {"key": "inference_endpoint", "value": {"stringValue": "smollm2"}},
                    {"key": "phase", "value": {"stringValue": "active"}},
                    {"key": "accelerator", "value": {"stringValue": "nvidia-l4"}},
                ],
                "timeUnixNano": "1795640424123456000",
                "asDouble": 0.25,
            }
        ],
        "aggregationTemporality": 2,
        "isMonotonic": True,
    }
    lag = {"attributes": [], "timeUnixNano": "1795640424123456000", "asDouble": 1.5}
    assert metrics["zerotide_ledger_lag_seconds"]["gauge"] == {"dataPoints": [lag]}


class Stub:
    """Answer as a test says, and keep what came."""

    def __init__(self) -> None:
        self.status, self.text = 200, "{}"
        self.bodies: list[Any] = []
        self.headers: list[Any] = []
        self.twice = asyncio.Event()

    async def handle(self, request: web.Request) -> web.Response:
        """Take one push."""
        self.bodies.append(await request.json())
        self.headers.append(request.headers)
        if len(self.bodies) > 1:
            self.twice.set()
        return web.Response(status=self.status, text=self.text)


@asynccontextmanager
async def stub() -> AsyncIterator[tuple[str, Stub]]:
    """Serve a collector that can be broken on purpose."""
    made, app = Stub(), web.Application()
    app.router.add_post("/v1/metrics", made.handle)
    async with TestServer(app) as server:
        yield str(server.make_url("")).rstrip("/"), made


async def test_it_is_pushed_again_and_again_with_its_headers() -> None:
    async with stub() as (endpoint, taken):
        task = asyncio.create_task(pusher(endpoint, 0.01).run())
        await asyncio.wait_for(taken.twice.wait(), 10)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert taken.headers[0]["X-Scope"] == "ours" and taken.headers[0]["Content-Type"] == "application/json"
    assert taken.bodies[0] == taken.bodies[1] == message(shown().collect(), NOW_US, {"k8s.cluster.name": "c1"})


@pytest.mark.parametrize(
    ("status", "text", "words"),
    [
        (503, "busy", "answered 503: busy"),
        (302, "", "answered 302"),
        (200, "<html>", "Error"),
        (200, json.dumps({"partialSuccess": {"rejectedDataPoints": "2", "errorMessage": "old"}}), "left out 2: old"),
    ],
)
async def test_what_is_not_taken_is_said(status: int, text: str, words: str) -> None:
    async with stub() as (endpoint, taken):
        taken.status, taken.text = status, text
        with pytest.raises(PushRefused, match=words):
            await push(endpoint)
        taken.status, taken.text = 200, ""
        await push(endpoint)


async def test_a_collector_that_is_gone_is_told_of_once(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(PushRefused, match="Cannot connect"):
        await push("http://127.0.0.1:1")
    async with stub() as (endpoint, taken):
        taken.status = 500
        with caplog.at_level(logging.WARNING, "zerotide.exporter.otlp"):
            task = asyncio.create_task(pusher(endpoint, 0.01).run())
            await asyncio.wait_for(taken.twice.wait(), 10)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
    assert [record.message for record in caplog.records] == ["metrics not pushed"]
