"""The activator against a real API server: wake requests, keys, pods, tokens, and its own end."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import aiohttp
import pytest
import yaml

from tests.activator.replica import Replica
from tests.activator.stack import until
from zerotide.activator.admission.naming import Name
from zerotide.activator.endpoints.endpoint import Endpoint
from zerotide.activator.service import Service
from zerotide.activator.settings import parse
from zerotide.api.apikey import digest, format_key
from zerotide.api.demand import Delta, Snapshot, decode
from zerotide.kube import Client, Clock, Reflector, load_credentials
from zerotide.kube.resources import (
    API_KEYS,
    CUSTOM_RESOURCE_DEFINITIONS,
    INFERENCE_ENDPOINTS,
    NAMESPACES,
    PODS,
    SERVICE_ACCOUNTS,
)

CRDS = Path(__file__).parents[2] / "crds"
BODY = {"model": "m", "messages": []}


@dataclass
class World:
    """A namespace of the test's own, on a real API server."""

    client: Client
    kubeconfig: str
    namespace: str
    keys: dict[str, str] = field(default_factory=dict)

    async def endpoint(self, **spec: Any) -> dict[str, Any]:
        """Create the endpoint `m`, or change it."""
        body = {
            "metadata": {"namespace": self.namespace, "name": "m"},
            "spec": {"model": {"uri": "image:///m"}, **spec},
        }
        return await self.client.apply(INFERENCE_ENDPOINTS, body, "test")

    async def status(self, **status: Any) -> None:
        """Write what the operator would."""
        body = {"metadata": {"namespace": self.namespace, "name": "m"}, "status": status}
        await self.client.apply(INFERENCE_ENDPOINTS, body, "zerotide-operator", subresource="status")

    async def read(self) -> dict[str, Any]:
        """Read the endpoint's status."""
        status: dict[str, Any] = (await self.client.get(INFERENCE_ENDPOINTS, "m", self.namespace)).get("status") or {}
        return status

    async def key(self, name: str = "k") -> str:
        """Create a key."""
        secret = secrets.token_bytes(32)
        spec = {"digest": digest(secret), "consumer": "team-a"}
        await self.client.apply(
            API_KEYS, {"metadata": {"namespace": self.namespace, "name": name}, "spec": spec}, "test"
        )
        return format_key(name, secret)

    async def pod(self, name: str, labels: dict[str, str], port: int = 1) -> None:
        """Create a pod that no kubelet takes, running on loopback by its status."""
        probe = {"httpGet": {"path": "/health", "port": port}}
        container = {"name": "model", "image": "localhost/none:1", "readinessProbe": probe}
        spec = {"containers": [container], "schedulerName": "nobody", "automountServiceAccountToken": False}
        metadata = {"namespace": self.namespace, "name": name, "labels": labels}
        await self.client.apply(PODS, {"metadata": metadata, "spec": spec}, "test")
        ready = {"type": "Ready", "status": "True"}
        status = {"phase": "Running", "podIP": "127.0.0.1", "podIPs": [{"ip": "127.0.0.1"}], "conditions": [ready]}
        await self.client.patch(PODS, name, self.namespace, {"status": status}, subresource="status")


@pytest.fixture
async def world(cluster: Any, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    """Have the custom resources, and a namespace."""
    monkeypatch.setenv("KUBECONFIG", str(cluster.kubeconfig))
    async with Client(await load_credentials()) as client:
        for path in CRDS.glob("*.yaml"):
            await client.apply(CUSTOM_RESOURCE_DEFINITIONS, yaml.safe_load(path.read_text()), "test")
        for name in ("inferenceendpoints.zerotide.dev", "apikeys.zerotide.dev", "budgets.zerotide.dev"):
            await established(client, name)
        namespace = f"act-{secrets.token_hex(4)}"
        await client.create(NAMESPACES, {"metadata": {"name": namespace}})
        yield World(client, str(cluster.kubeconfig), namespace)
        await client.delete(NAMESPACES, namespace)


async def established(client: Client, name: str) -> None:
    """Wait until a kind is served."""
    async with asyncio.timeout(30):
        while True:
            crd = await client.get(CUSTOM_RESOURCE_DEFINITIONS, name)
            conditions = (crd.get("status") or {}).get("conditions") or ()
            if any(each["type"] == "Established" and each["status"] == "True" for each in conditions):
                return
            await asyncio.sleep(0.05)


class Activator:
    """An activator in this process, as it is in its pod."""

    def __init__(self, world: World, name: str, folder: Path) -> None:
        environment = {
            "POD_NAME": name,
            "POD_NAMESPACE": world.namespace,
            "ZEROTIDE_EXPORTER_URL": "none",
            "ZEROTIDE_USAGE_DIR": str(folder / name),
        }
        arguments = ["--listen", "127.0.0.1", "--port", "0", "--admin-port", "0"]
        self.service = Service(parse(arguments, environment), world.client, Clock())
        self.world = world

    async def __aenter__(self) -> Self:
        """Serve."""
        await self.service.start()
        self.url = f"http://127.0.0.1:{self.service.port}"
        self.session = aiohttp.ClientSession()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop."""
        await self.session.close()
        await self.service.stop()

    @property
    def held(self) -> int:
        """Return how many requests are held."""
        return sum(endpoint.gate.held for endpoint in self.service.registry.endpoints.values())

    @property
    def mine(self) -> Endpoint:
        """Return the test's endpoint."""
        return self.service.registry.endpoints[Name(self.world.namespace, "m")]

    async def knows(self, *keys: str) -> None:
        """Wait until the endpoint and keys are known here."""
        registry = self.service.registry
        await until(lambda: any(name.namespace == self.world.namespace for name in registry.endpoints))
        await until(lambda: all(registry.keyring.find(key, 0) for key in keys))

    async def post(self, key: str) -> tuple[int, str]:
        """Send a chat and return the status and the error code."""
        headers = {"Authorization": f"Bearer {key}"}
        async with self.session.post(self.url + "/v1/chat/completions", json=BODY, headers=headers) as response:
            await response.read()
            return response.status, response.headers.get("x-zerotide-error", "")


@pytest.fixture
async def two(world: World, tmp_path: Path) -> AsyncIterator[tuple[Activator, Activator]]:
    """Run two activators."""
    async with Activator(world, "act-0", tmp_path) as first, Activator(world, "act-1", tmp_path) as second:
        yield first, second


async def test_a_burst_over_two_activators(world: World, two: tuple[Activator, Activator], replica: Replica) -> None:
    """Fifty requests over both: one wake request in the object's whole history, fifty answers from one pod."""
    await world.endpoint(scaling={"concurrency": {"limit": 0}})
    key = await world.key()
    wishes: list[str] = []

    def seen(change: Any) -> None:
        wish = (change.object.get("status") or {}).get("wakeRequest")
        if change.object["metadata"]["namespace"] == world.namespace and wish and wish["id"] not in wishes:
            wishes.append(wish["id"])

    reflector = Reflector(world.client, INFERENCE_ENDPOINTS, world.namespace, on_change=seen)
    following = asyncio.create_task(reflector.run())
    await reflector.synced.wait()
    for activator in two:
        await activator.knows(key)
    tasks = [asyncio.create_task(activator.post(key)) for _ in range(25) for activator in two]
    await until(lambda: two[0].held == two[1].held == 25, timeout=20)
    await until(lambda: wishes, timeout=20)
    managed = (await world.client.get(INFERENCE_ENDPOINTS, "m", world.namespace))["metadata"]["managedFields"]
    assert {"zerotide-activator"} <= {entry["manager"] for entry in managed}
    # What the operator does: handle the wish; a pod comes.
    await world.status(handledWakeRequest=wishes[0], desiredReplicas=1, state="Waking")
    await world.pod("m-1", {"zerotide.dev/endpoint": "m"}, replica.port)
    assert [await task for task in tasks] == [(200, "")] * 50
    assert len(wishes) == 1
    assert len(replica.posts) == 50
    # It falls asleep; the next request is a new wish.
    await world.client.delete(PODS, "m-1", world.namespace, grace_seconds=0)
    await world.status(handledWakeRequest=wishes[0], desiredReplicas=0, state="Asleep")
    await until(lambda: all(not activator.mine.replicas and activator.mine.profile.asleep for activator in two))
    task = asyncio.create_task(two[1].post(key))
    await until(lambda: len(wishes) == 2, timeout=20)
    task.cancel()
    following.cancel()


async def test_a_revoked_key_opens_nothing_within_a_second(world: World, two: tuple[Activator, Activator]) -> None:
    """The watch brings the deletion to every activator; nothing is woken by it afterwards."""
    await world.endpoint()
    key = await world.key()
    for activator in two:
        await activator.knows(key)
    await world.client.delete(API_KEYS, "k", world.namespace)
    await asyncio.sleep(1)
    for activator in two:
        assert await activator.post(key) == (401, "invalid_api_key")
    assert "wakeRequest" not in await world.read()


async def test_objects_answer_the_waiters(world: World, two: tuple[Activator, Activator]) -> None:
    """A condition, a suspension and a deletion each reach those who wait over the watch."""
    obj = await world.endpoint()
    key = await world.key()
    first, _ = two
    await first.knows(key)

    async def one_held() -> asyncio.Task[tuple[int, str]]:
        task = asyncio.create_task(first.post(key))
        await until(lambda: first.held == 1, timeout=20)
        return task

    task = await one_held()
    condition = {
        "type": "Accepting",
        "status": "False",
        "reason": "ImagePullFailed",
        "message": "no such image",
        "lastTransitionTime": "2026-11-22T10:00:00Z",
        "observedGeneration": obj["metadata"]["generation"],
    }
    await world.status(conditions=[condition])
    assert await task == (500, "image_pull_failed")
    await world.endpoint(hold={"maxRequests": 7})
    await until(lambda: first.mine.profile.blocked is None)
    task = await one_held()
    await world.endpoint(suspend=True)
    assert await task == (500, "suspended")
    await world.endpoint(suspend=False)
    await until(lambda: first.mine.profile.blocked is None)
    task = await one_held()
    await world.client.delete(INFERENCE_ENDPOINTS, "m", world.namespace)
    assert await task == (404, "endpoint_not_found")


async def test_bounds_follow_the_activators_that_are_ready(world: World, two: tuple[Activator, Activator]) -> None:
    """With two ready pods each holds half of the bound; alone, all of it."""
    await world.endpoint(hold={"maxRequests": 11})
    for activator in two:
        await activator.knows()

    def bounds() -> list[int]:
        return [activator.mine.gate.bounds.max_requests for activator in two]

    assert bounds() == [11, 11]
    for name in ("act-0", "act-1"):
        await world.pod(name, {"app.kubernetes.io/component": "activator"})
    await until(lambda: bounds() == [6, 5])
    await world.client.delete(PODS, "act-1", world.namespace, grace_seconds=0)
    await until(lambda: bounds() == [11, 5])


async def test_the_demand_stream_takes_real_tokens(world: World, two: tuple[Activator, Activator]) -> None:
    """The operator's token for our audience is taken; for another audience, or of another account, it is not."""
    for account in ("zerotide-operator", "somebody"):
        await world.client.create(SERVICE_ACCOUNTS, {"metadata": {"namespace": world.namespace, "name": account}})
    mint = world.client.token
    good = await mint("zerotide-operator", world.namespace, "zerotide-activator")
    audience = await mint("zerotide-operator", world.namespace, "zerotide-exporter")
    other = await mint("somebody", world.namespace, "zerotide-activator")
    url = f"http://127.0.0.1:{two[0].service.admin_port}/internal/demand"
    for token, status in ((audience, 401), (other, 403), (good, 200)):
        async with two[0].session.get(url, headers={"Authorization": f"Bearer {token}"}) as response:
            assert response.status == status
            if status == 200:
                message = decode(await response.content.readline())
                assert isinstance(message, Snapshot)
                assert message.activator == "act-0"


@asynccontextmanager
async def process(world: World, *arguments: str) -> AsyncIterator[tuple[asyncio.subprocess.Process, dict[str, Any]]]:
    """Run an activator as a process of its own and return what it says when it serves."""
    environment = {**os.environ, "KUBECONFIG": world.kubeconfig, "POD_NAME": "p-0", "POD_NAMESPACE": world.namespace}
    running = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "zerotide.activator", "--listen", "127.0.0.1", "--port", "0", "--admin-port", "0",
        "--exporter-url", "none", *arguments, env=environment, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert running.stderr is not None
    try:
        async with asyncio.timeout(60):
            while True:
                line = json.loads(await running.stderr.readline())
                if line["message"] == "serving" and ("processes" in line or "--processes" not in arguments):
                    break
        yield running, line
    finally:
        if running.returncode is None:
            running.kill()
        await running.wait()


async def test_sigterm_drains(world: World, replica: Replica) -> None:
    """Not ready any more; streams end whole, new requests are served meanwhile; exit 0."""
    replica.hold = asyncio.Event()
    await world.endpoint()
    await world.status(desiredReplicas=1)
    key = await world.key()
    await world.pod("m-1", {"zerotide.dev/endpoint": "m"}, replica.port)
    async with AsyncExitStack() as stack:
        running, line = await stack.enter_async_context(process(world, "--drain-listen", "500ms"))
        session = await stack.enter_async_context(aiohttp.ClientSession())
        url = f"http://127.0.0.1:{line['port']}/v1/chat/completions"
        admin = f"http://127.0.0.1:{line['admin_port']}"
        headers = {"Authorization": f"Bearer {key}"}

        async def chat() -> str:
            async with session.post(url, json={**BODY, "stream": True}, headers=headers) as response:
                assert response.headers.get("connection", "") == "close"
                return (await response.read()).decode()

        async def readiness() -> int:
            async with session.get(admin + "/readyz") as response:
                return response.status

        assert await readiness() == 200
        first = asyncio.create_task(chat())
        await until(lambda: replica.in_flight == 1, timeout=20)
        running.send_signal(signal.SIGTERM)
        async with asyncio.timeout(10):
            while await readiness() != 503:
                await asyncio.sleep(0.01)
        second = asyncio.create_task(chat())
        await until(lambda: replica.in_flight == 2, timeout=20)
        assert running.returncode is None
        replica.hold.set()
        for text in (await first, await second):
            assert text.endswith("data: [DONE]\n\n")
        async with asyncio.timeout(20):
            assert await running.wait() == 0


async def test_several_processes_are_one_activator(world: World, replica: Replica, tmp_path: Path) -> None:
    """Each reads the API server, a burst over both is one wake, and the operator sees one demand."""
    await world.endpoint(scaling={"concurrency": {"limit": 0}})
    key = await world.key()
    await world.client.create(
        SERVICE_ACCOUNTS, {"metadata": {"namespace": world.namespace, "name": "zerotide-operator"}}
    )
    token = await world.client.token("zerotide-operator", world.namespace, "zerotide-activator")
    arguments = ("--processes", "2", "--drain-listen", "0s", "--usage-dir", str(tmp_path / "usage"))
    async with process(world, *arguments) as (running, line), aiohttp.ClientSession() as session:
        url, admin = (f"http://127.0.0.1:{line[name]}" for name in ("port", "admin_port"))

        async def chat() -> int:
            headers = {"Authorization": f"Bearer {key}", "Connection": "close"}
            async with session.post(url + "/v1/chat/completions", json=BODY, headers=headers) as response:
                await response.read()
                return response.status

        async with session.get(admin + "/internal/demand", headers={"Authorization": f"Bearer {token}"}) as stream:
            first = decode(await stream.content.readline())
            assert isinstance(first, Snapshot)
            assert first.activator == "p-0"
            tasks = [asyncio.create_task(chat()) for _ in range(20)]
            async with asyncio.timeout(20):
                while True:
                    message = decode(await stream.content.readline())
                    if isinstance(message, Delta) and message.demand.held == 20:
                        break
        async with asyncio.timeout(20):
            while not (wish := (await world.read()).get("wakeRequest")):
                await asyncio.sleep(0.02)
        assert wish["by"] in ("p-0/0", "p-0/1")
        await world.status(handledWakeRequest=wish["id"], desiredReplicas=1, state="Waking")
        await world.pod("m-1", {"zerotide.dev/endpoint": "m"}, replica.port)
        assert [await task for task in tasks] == [200] * 20
        running.send_signal(signal.SIGTERM)
        async with asyncio.timeout(20):
            assert await running.wait() == 0
    assert sorted(path.name for path in (tmp_path / "usage").iterdir()) == ["0", "1"]
