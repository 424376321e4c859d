"""A stand-in for the API servers of metrics that autoscalers ask, told what to answer by lines of JSON on its input.

{"name": "queue", "value": 3}     the external metric, and that of each pod which the autoscaler's selector selects
"""

from __future__ import annotations

import argparse
import asyncio
import json
import ssl
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from aiohttp import web

from tests.activator.wire.certificates import Authority
from zerotide.kube import Client, load_credentials
from zerotide.kube.resources import PODS

GROUPS = {"external.metrics.k8s.io": "v1beta1", "custom.metrics.k8s.io": "v1beta2"}


class Metrics:
    """What is answered, by the metric's name."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self.values: dict[str, int] = {}

    async def discovery(self, request: web.Request) -> web.Response:
        """Say that the group is there."""
        version = f"{request.match_info['group']}/{request.match_info['version']}"
        return web.json_response(
            {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": version, "resources": []}
        )

    async def external(self, request: web.Request) -> web.Response:
        """Answer what a metric from outside is."""
        name = request.match_info["metric"]
        items = [{"metricName": name, "metricLabels": {}, "timestamp": _now(), "value": str(self.values.get(name, 0))}]
        return _list("ExternalMetricValueList", "external.metrics.k8s.io", items)

    async def pods(self, request: web.Request) -> web.Response:
        """Answer what the metric of each selected pod is."""
        namespace, name = request.match_info["namespace"], request.match_info["metric"]
        listed = await self._client.list(PODS, namespace, label_selector=request.query["labelSelector"])
        items = [
            {
                "describedObject": {"kind": "Pod", "namespace": namespace, "name": pod["metadata"]["name"]},
                "metric": {"name": name},
                "timestamp": _now(),
                "value": str(self.values.get(name, 0)),
            }
            for pod in listed.items
        ]
        return _list("MetricValueList", "custom.metrics.k8s.io", items)

    def app(self) -> web.Application:
        """Return the web application."""
        app = web.Application()
        app.router.add_get("/apis/{group}/{version}", self.discovery)
        app.router.add_get("/apis/external.metrics.k8s.io/v1beta1/namespaces/{namespace}/{metric}", self.external)
        app.router.add_get("/apis/custom.metrics.k8s.io/v1beta2/namespaces/{namespace}/pods/*/{metric}", self.pods)
        return app


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _list(kind: str, group: str, items: list[Any]) -> web.Response:
    return web.json_response({"kind": kind, "apiVersion": f"{group}/{GROUPS[group]}", "metadata": {}, "items": items})


async def serve(address: str, port: int) -> None:
    """Serve until standard input ends."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.TemporaryDirectory() as folder:
        mounted = Path(folder) / "mounted"
        Authority(Path(folder) / "authority").mount(mounted)
        tls.load_cert_chain(mounted / "tls.crt", mounted / "tls.key")
    async with Client(await load_credentials()) as client:
        metrics = Metrics(client)
        runner = web.AppRunner(metrics.app(), access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, address, port, ssl_context=tls).start()
        print("ready", flush=True)
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        while line := await reader.readline():
            told = json.loads(line)
            metrics.values[told["name"]] = told["value"]
        await runner.cleanup()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--address", required=True)
    parser.add_argument("--port", type=int, required=True)
    given = parser.parse_args()
    asyncio.run(serve(given.address, given.port))
