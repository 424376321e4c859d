"""Objects at a real API server for benchmarks: endpoints, keys, and pods whose address is the backend."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import yaml

from zerotide.activator.endpoints.peers import PROCESSES
from zerotide.api.apikey import SECRET_BYTES, digest, format_key
from zerotide.api.names import AUDIENCE_ACTIVATOR, COMPONENT_ACTIVATOR, LABEL_COMPONENT
from zerotide.api.names import SERVICE_ACCOUNT_ACTIVATOR as ACTIVATOR
from zerotide.kube import AlreadyExists, Client, load_credentials
from zerotide.kube.resources import (
    API_KEYS,
    CUSTOM_RESOURCE_DEFINITIONS,
    INFERENCE_ENDPOINTS,
    NAMESPACES,
    PODS,
    SERVICE_ACCOUNTS,
)

Json = dict[str, Any]
ROOT = Path(__file__).resolve().parents[2]
MANAGER = "bench"
NAMESPACE = "bench"
MOST = 100_000
"""More than any benchmark holds at once: what the custom resource allows at most."""


class World:
    """What the activator watches, in a namespace of the benchmark's own."""

    def __init__(self, client: Client) -> None:
        self.client = client

    async def endpoint(self, name: str = "m", **spec: Any) -> None:
        """Create or change an endpoint."""
        metadata = {"namespace": NAMESPACE, "name": name}
        body = {"metadata": metadata, "spec": {"model": {"uri": "image:///m"}, **spec}}
        await self.client.apply(INFERENCE_ENDPOINTS, body, MANAGER)

    async def status(self, name: str = "m", **status: Any) -> None:
        """Write what the operator would."""
        body = {"metadata": {"namespace": NAMESPACE, "name": name}, "status": status}
        await self.client.apply(INFERENCE_ENDPOINTS, body, "zerotide-operator", subresource="status")

    async def key(self, name: str = "k") -> str:
        """Create a key and return its text."""
        secret = secrets.token_bytes(SECRET_BYTES)
        spec = {"digest": digest(secret), "consumer": "team-a"}
        await self.client.apply(API_KEYS, {"metadata": {"namespace": NAMESPACE, "name": name}, "spec": spec}, MANAGER)
        return format_key(name, secret)

    async def pod(self, name: str, endpoint: str, port: int) -> None:
        """Create a replica that no kubelet takes; it has no address yet."""
        probe = {"httpGet": {"path": "/health", "port": port}}
        container = {"name": "model", "image": "localhost/none:1", "readinessProbe": probe}
        metadata = {"namespace": NAMESPACE, "name": name, "labels": {"zerotide.dev/endpoint": endpoint}}
        spec = {"containers": [container], "schedulerName": "nobody", "automountServiceAccountToken": False}
        await self.client.apply(PODS, {"metadata": metadata, "spec": spec}, MANAGER)

    async def address(self, name: str, address: str, space: str = NAMESPACE) -> None:
        """Give a pod its address, as the kubelet does."""
        ready = {"type": "Ready", "status": "True"}
        status = {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}], "conditions": [ready]}
        await self.client.patch(PODS, name, space, {"status": status}, subresource="status")

    async def gone(self, name: str) -> None:
        """Delete a replica at once."""
        await self.client.delete(PODS, name, NAMESPACE, grace_seconds=0)

    async def activators(self, space: str, processes: int, address: str) -> str:
        """Have an activator's pod in a namespace of its own, and return a token by which its processes know each other.

        Its API object is all that there is of the pod: the processes find each other by it.
        """
        await namespace(self.client, space)
        await self.client.apply(SERVICE_ACCOUNTS, {"metadata": {"namespace": space, "name": ACTIVATOR}}, MANAGER)
        variable = {"name": PROCESSES, "value": str(processes)}
        container = {"name": "activator", "image": "localhost/none:1", "env": [variable]}
        metadata = {"namespace": space, "name": "activator-0", "labels": {LABEL_COMPONENT: COMPONENT_ACTIVATOR}}
        spec = {"containers": [container], "schedulerName": "nobody", "automountServiceAccountToken": False}
        await self.client.apply(PODS, {"metadata": metadata, "spec": spec}, MANAGER)
        await self.address("activator-0", address, space)
        return await self.client.token(ACTIVATOR, space, AUDIENCE_ACTIVATOR)


@asynccontextmanager
async def world() -> AsyncIterator[World]:
    """Have Zerotide's kinds and a namespace, at the API server of KUBECONFIG."""
    async with Client(await load_credentials()) as client:
        await define(client, sorted((ROOT / "crds").glob("*.yaml")))
        await namespace(client, NAMESPACE)
        yield World(client)


async def namespace(client: Client, name: str) -> None:
    """Have a namespace."""
    try:
        await client.create(NAMESPACES, {"metadata": {"name": name}})
    except AlreadyExists:
        return


async def define(client: Client, paths: Iterable[Path]) -> None:
    """Have custom resources from their files, and wait until they are served. Raises TimeoutError."""
    names = []
    for path in paths:
        crd = yaml.safe_load(path.read_text())
        names.append(crd["metadata"]["name"])
        await client.apply(CUSTOM_RESOURCE_DEFINITIONS, crd, MANAGER)
    async with asyncio.timeout(60):
        for name in names:
            while not await _established(client, name):
                await asyncio.sleep(0.05)


async def _established(client: Client, name: str) -> bool:
    crd = await client.get(CUSTOM_RESOURCE_DEFINITIONS, name)
    conditions = (crd.get("status") or {}).get("conditions") or ()
    return any(each["type"] == "Established" and each["status"] == "True" for each in conditions)
