"""A real exporter process on a real cluster, and a namespace with pods that it meters."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

from e2e.cluster import Cluster
from e2e.oracle import PREFIX, Oracle
from e2e.tools import folder_of
from zerotide.billing.reports import PodSegments, SegmentReport
from zerotide.kube import AlreadyExists, Client, NotFound, Object, load_credentials
from zerotide.kube.resources import (
    CUSTOM_RESOURCE_DEFINITIONS,
    NAMESPACES,
    PODS,
    SERVICE_ACCOUNTS,
    Resource,
)

CRDS = sorted((Path(__file__).parents[2] / "crds").glob("zerotide.dev_[bip]*.yaml"))
ROLES = Resource("rbac.authorization.k8s.io", "v1", "roles", "Role")
ROLE_BINDINGS = Resource("rbac.authorization.k8s.io", "v1", "rolebindings", "RoleBinding")
CLUSTER_ROLES = Resource("rbac.authorization.k8s.io", "v1", "clusterroles", "ClusterRole", namespaced=False)
CLUSTER_ROLE_BINDINGS = Resource(
    "rbac.authorization.k8s.io", "v1", "clusterrolebindings", "ClusterRoleBinding", namespaced=False
)
FINALIZER = "metering.zerotide.dev/ledger"
IMAGE = "localhost/zerotide/pause:1"


class Running:
    """A real exporter process, and a namespace that it meters."""

    def __init__(self, client: Client, cluster: Cluster, folder: Path, namespace: str, database: str = "") -> None:
        self.client, self.namespace = client, namespace
        self._folder, self._cluster, self._database = folder, cluster, database
        self._process: asyncio.subprocess.Process | None = None
        self.flags: tuple[str, ...] = ()
        """More flags of the exporter."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]

    async def start(self) -> None:
        """Start, and wait until it is ready."""
        flags = ["--listen", "127.0.0.1", "--port", str(self.port), "--ledger", str(self._folder / "ledger.sqlite")]
        user = f"system:serviceaccount:{self.namespace}:activator"
        flags += ["--database", self._database] if self._database else []
        with (self._folder / "log").open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "zerotide.exporter", *flags),
                *(
                    "--price-book",
                    self.namespace,
                    "--activator-user",
                    user,
                    "--settle-lag",
                    "1s",
                    "--settle-interval",
                    "200ms",
                    *self.flags,
                ),
                stderr=log,
                env={**os.environ, "KUBECONFIG": str(self._cluster.kubeconfig)},
            )
        await eventually(lambda: self.answers("/readyz"))

    def oracle(self, namespace: str = "") -> Oracle:
        """Return a witness of the pods of the namespace, or of another one."""
        kubectl = folder_of("kubernetes") / "kubectl"
        return Oracle(kubectl, Path(self._cluster.kubeconfig), namespace or self.namespace, self._cluster.ctr())

    async def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal and return the exit code; does nothing when it does not run."""
        if self._process is None:
            return 0
        self._process.send_signal(number)
        code = await asyncio.wait_for(self._process.wait(), 30)
        self._process = None
        return code

    async def answers(self, path: str) -> bool:
        """Tell whether a route answers 200."""
        try:
            async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{self.port}{path}") as answer:
                return answer.status == 200
        except aiohttp.ClientError:
            return False

    async def get(self, path: str, account: str = "reader") -> tuple[int, str]:
        """Read a report as a ServiceAccount of the namespace."""
        headers = {"X-Zerotide-Token": await self.client.token(account, self.namespace)}
        url = f"http://127.0.0.1:{self.port}{path}"
        async with aiohttp.ClientSession() as session, session.get(url, headers=headers) as answer:
            return answer.status, await answer.text()

    async def segments(self) -> dict[str, PodSegments]:
        """Return the segments of each pod of the namespace, by its name."""
        status, text = await self.get(f"/api/v1/segments?namespace={self.namespace}")
        assert status == 200, text
        return {pod.pod: pod for pod in SegmentReport.model_validate_json(text).pods}

    async def known(self, *names: str) -> dict[str, PodSegments]:
        """Return what is recorded, once it holds these pods: the exporter takes starts in when it has time."""
        found: dict[str, PodSegments] = {}

        async def told() -> bool:
            found.update(await self.segments())
            return found.keys() >= set(names)

        await eventually(told)
        return found

    async def is_in(self, name: str, phase: str) -> bool:
        """Tell whether a pod is in a phase now, by what is recorded."""
        return (await self.known(name))[name].segments[-1].phase == phase

    async def pod(self, name: str, *, gpus: int = 1, image: str = IMAGE, namespace: str = "") -> Object:
        """Create a replica, here or in another namespace."""
        resources = {
            "requests": {"cpu": "10m", "memory": "8Mi"},
            "limits": {"nvidia.com/gpu": str(gpus)} if gpus else {},
        }
        container = {"name": "model", "image": image, "imagePullPolicy": "IfNotPresent", "resources": resources}
        metadata = {
            "name": name,
            "namespace": namespace or self.namespace,
            "labels": {"zerotide.dev/endpoint": "smollm2"},
            "finalizers": [FINALIZER],
        }
        spec = {
            "containers": [container],
            "terminationGracePeriodSeconds": 2,
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
        }
        return await self.client.create(PODS, {"metadata": metadata, "spec": spec})

    async def delete(self, name: str, grace: int | None = None) -> None:
        """Ask for a pod's deletion."""
        await self.client.delete(PODS, name, self.namespace, grace_seconds=grace)

    async def kill(self, pod: Object) -> None:
        """Kill the process of a pod's container, as a crash would end it."""
        container = pod["status"]["containerStatuses"][0]["containerID"].removeprefix(PREFIX)
        command = self._cluster.ctr("tasks", "kill", "--signal", "SIGKILL", container)
        process = await asyncio.create_subprocess_exec(*command)
        assert await asyncio.wait_for(process.wait(), 30) == 0

    async def until(self, name: str, condition: Callable[[Object], Any], namespace: str = "") -> Object:
        """Wait until a pod's object meets a condition."""
        found: list[Object] = []

        async def met() -> bool:
            found[:] = [await self.client.get(PODS, name, namespace or self.namespace)]
            return bool(condition(found[0]))

        await eventually(met)
        return found[0]

    async def lived(self, name: str) -> None:
        """Have a pod that ran for a while, and is gone."""
        await self.pod(name)
        await self.until(name, running)
        await asyncio.sleep(1.1)  # stamps have whole seconds: a shorter life may cost nothing
        await self.delete(name)
        await self.gone(name)

    async def gone(self, name: str, namespace: str = "") -> None:
        """Wait until a pod's object is gone."""

        async def absent() -> bool:
            try:
                await self.client.get(PODS, name, namespace or self.namespace)
            except NotFound:
                return True
            return False

        await eventually(absent)


async def eventually(condition: Callable[[], Any], timeout: float = 90) -> None:
    """Ask until the answer is yes."""
    async with asyncio.timeout(timeout):
        while not await condition():
            await asyncio.sleep(0.1)


def running(pod: Object) -> bool:
    """Tell whether a pod runs and is ready."""
    conditions = {each["type"]: each["status"] for each in pod["status"].get("conditions") or ()}
    return pod["status"].get("phase") == "Running" and conditions.get("Ready") == "True"


def backs_off(pod: Object) -> bool:
    """Tell whether the kubelet waits before it starts a pod's container again."""
    (status,) = pod["status"].get("containerStatuses") or [{}]
    return bool(status.get("state", {}).get("waiting", {}).get("reason") == "CrashLoopBackOff")


def backs_off_or_in(number: int) -> Callable[[Object], bool]:
    """Return a condition: the kubelet backs off, or the pod is ready after so many restarts of its container."""
    return lambda pod: (
        backs_off(pod) or (running(pod) and pod["status"]["containerStatuses"][0]["restartCount"] == number)
    )


@asynccontextmanager
async def world(
    cluster: Cluster, folder: Path, monkeypatch: pytest.MonkeyPatch, database: str = ""
) -> AsyncIterator[Running]:
    """Make a namespace with a reader and an activator account; remove it, finalizers and all, afterwards."""
    monkeypatch.setenv("KUBECONFIG", str(cluster.kubeconfig))
    namespace = f"billing-{uuid.uuid4().hex[:8]}"
    async with Client(await load_credentials()) as client:
        for crd in CRDS:
            with suppress(AlreadyExists):
                await client.create(CUSTOM_RESOURCE_DEFINITIONS, yaml.safe_load(crd.read_text()))
        await client.create(NAMESPACES, {"metadata": {"name": namespace}})
        for account in ("reader", "auditor", "activator", "stranger", "default"):
            with suppress(AlreadyExists):
                await client.create(SERVICE_ACCOUNTS, {"metadata": {"name": account, "namespace": namespace}})
        rule = {"apiGroups": ["zerotide.dev"], "resources": ["inferenceendpoints"], "verbs": ["get"]}
        await client.create(ROLES, {"metadata": {"name": "read", "namespace": namespace}, "rules": [rule]})
        subject = {"kind": "ServiceAccount", "name": "reader", "namespace": namespace}
        role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "read"}
        metadata = {"name": "read", "namespace": namespace}
        await client.create(ROLE_BINDINGS, {"metadata": metadata, "subjects": [subject], "roleRef": role})
        everywhere, auditor = {"name": namespace}, {**subject, "name": "auditor"}
        role = {**role, "kind": "ClusterRole", "name": namespace}
        await client.create(CLUSTER_ROLES, {"metadata": everywhere, "rules": [rule]})
        await client.create(CLUSTER_ROLE_BINDINGS, {"metadata": everywhere, "subjects": [auditor], "roleRef": role})
        made = Running(client, cluster, folder, namespace, database)
        try:
            yield made
        finally:
            await made.end(signal.SIGKILL)
            await clean(client, namespace)
            for kind in (CLUSTER_ROLE_BINDINGS, CLUSTER_ROLES):
                await client.delete(kind, namespace)


async def clean(client: Client, namespace: str) -> None:
    """Remove a namespace, whatever still holds its pods."""
    for pod in (await client.list(PODS, namespace)).items:
        name = pod["metadata"]["name"]
        try:
            await client.patch(PODS, name, namespace, {"metadata": {"finalizers": None}})
            await client.delete(PODS, name, namespace, grace_seconds=0)
        except NotFound:
            pass
    await client.delete(NAMESPACES, namespace)


def allocated_seconds(pod: PodSegments) -> float:
    """Return the sum of a pod's segments, which must be its allocation without gap or overlap."""
    spans = [segment for segment in pod.segments if segment.phase != "queued"]
    total = sum(segment.to_us - segment.from_us for segment in spans)
    assert total == pod.allocated_to_us - pod.allocated_from_us
    assert all(one.to_us == other.from_us for one, other in pairwise(spans))
    return total / 1e6


async def agree(oracle: Oracle, *pods: PodSegments) -> None:
    """Wait until the oracle has seen what the ledger says of these pods, to the second, and nothing else of them."""

    async def same() -> bool:
        held = {uid: each.seconds for uid, each in oracle.held().items()}
        return {pod.pod_uid: allocated_seconds(pod) for pod in pods} == held and all(held.values())

    try:
        await eventually(same, 15)
    except TimeoutError:
        seen = {uid: held.seconds for uid, held in oracle.held().items()}
        told = {pod.pod_uid: allocated_seconds(pod) for pod in pods}
        assert told == seen, f"the ledger says {told}, the oracle saw {seen}"
    assert oracle.watching
