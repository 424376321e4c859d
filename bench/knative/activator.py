"""Knative's activator alone, at a real API server: the few objects that it needs for one revision."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

from bench.knative.install import sources
from bench.wire.world import MANAGER, define, namespace
from zerotide.kube import Client
from zerotide.kube.resources import CONFIG_MAPS, SERVICES, Resource

REVISIONS = Resource("serving.knative.dev", "v1", "revisions", "Revision")
ENDPOINTS = Resource("", "v1", "endpoints", "Endpoints")
SYSTEM = "knative-serving"
PORT = 8012
NAMESPACE, REVISION = "default", "r0"
PRIVATE = f"{REVISION}-private"
# The activator takes endpoints only of a Service that it has seen.
SETTLE = 1.5


def environment() -> dict[str, str]:
    """Return what its Deployment sets, where there is no pod; KUBECONFIG comes from outside."""
    return {
        **os.environ,
        "SYSTEM_NAMESPACE": SYSTEM,
        "POD_NAME": "activator-0",
        "POD_IP": "127.0.0.1",
        "CONFIG_LOGGING_NAME": "config-logging",
        "CONFIG_OBSERVABILITY_NAME": "config-observability",
        "GOGC": "500",
    }


async def prepare(client: Client) -> None:
    """Make what it needs to start, and one revision without an address."""
    await define(client, [sources() / "config/core/300-resources/revision.yaml"])
    await namespace(client, SYSTEM)
    for name in ("config-network", "config-logging", "config-observability"):
        await client.apply(CONFIG_MAPS, {"metadata": {"namespace": SYSTEM, "name": name}, "data": {}}, MANAGER)
    metadata = {"namespace": NAMESPACE, "name": REVISION, "labels": {"serving.knative.dev/service": "m"}}
    # Without a timeout the handler panics: Knative's webhook, which is not here, would set it.
    spec: dict[str, Any] = {"containers": [{"image": "localhost/none:1"}], "timeoutSeconds": 600}
    await client.apply(REVISIONS, {"metadata": metadata, "spec": {**spec, "containerConcurrency": 0}}, MANAGER)
    service = {"ports": [{"name": "http", "port": 80}]}
    await client.apply(SERVICES, {"metadata": {"namespace": NAMESPACE, "name": PRIVATE}, "spec": service}, MANAGER)
    await asyncio.sleep(SETTLE)


async def address(client: Client, addresses: list[str], port: int) -> None:
    """Give the revision addresses; none is a revision at zero."""
    labels = {
        "networking.internal.knative.dev/serviceType": "Private",
        "serving.knative.dev/revision": REVISION,
        "serving.knative.dev/revisionUID": "x",
    }
    ports = [{"name": "http", "port": port}]
    subsets = [{"addresses": [{"ip": each} for each in addresses], "ports": ports}] if addresses else []
    metadata = {"namespace": NAMESPACE, "name": PRIVATE, "labels": labels}
    await client.apply(ENDPOINTS, {"metadata": metadata, "subsets": subsets}, MANAGER)


def command(program: Path) -> list[str]:
    """Return its command line."""
    return [str(program)]
