"""The exporter on a real cluster: real pods, a real kubelet's stamps, an oracle that shares no code with the fold."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import socket
import sys
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, nullcontext, suppress
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

from e2e.cluster import Cluster
from e2e.oracle import Oracle
from e2e.postgres import Database
from e2e.tools import folder_of
from zerotide.api.usage import Intent, Outcome, Settlement, Tokens
from zerotide.billing.reports import CostReport, PodSegments, SegmentReport
from zerotide.billing.statements import Verification
from zerotide.kube import AlreadyExists, Client, NotFound, Object, load_credentials
from zerotide.kube.resources import (
    CUSTOM_RESOURCE_DEFINITIONS,
    INFERENCE_ENDPOINTS,
    NAMESPACES,
    PODS,
    PRICE_BOOKS,
    SERVICE_ACCOUNTS,
    Resource,
)

CRDS = sorted((Path(__file__).parents[2] / "crds").glob("zerotide.dev_[ip]*.yaml"))
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


@pytest.fixture
async def metered(exporter_cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Running]:
    """Prepare a namespace of a local cluster, whose node has GPUs; the exporter is not started yet."""
    async with world(exporter_cluster, tmp_path, monkeypatch) as made:
        yield made


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
        assert {pod.pod_uid: allocated_seconds(pod) for pod in pods} == seen
    assert oracle.watching


async def test_a_life_that_the_exporter_saw(metered: Running) -> None:
    with metered.oracle() as oracle:
        await metered.start()
        await metered.pod("p1", gpus=2)
        await metered.until("p1", running)
        live = (await metered.known("p1"))["p1"]
        assert (live.ended, live.units, live.node) == ("", 2, (await metered.until("p1", running))["spec"]["nodeName"])
        await metered.delete("p1")
        await metered.gone("p1")
        pod = (await metered.segments())["p1"]
        assert (pod.ended, pod.flags) == ("finished", ())
        await agree(oracle, pod)
    assert pod.accelerator == "nvidia-h100-80gb", "the node's label names the device"
    assert await metered.end() == 0


async def test_a_life_and_death_while_the_exporter_was_down(metered: Running) -> None:
    with metered.oracle() as oracle:
        await metered.pod("p1")
        await metered.until("p1", running)
        await asyncio.sleep(1.1)  # stamps have whole seconds: a shorter life may cost nothing
        await metered.delete("p1")
        corpse = await metered.until("p1", lambda pod: pod["status"]["phase"] in ("Succeeded", "Failed"))
        assert corpse["metadata"]["finalizers"] == [FINALIZER], "the kubelet waits for nobody, the object does"
        await metered.start()
        await metered.gone("p1")
        pod = (await metered.segments())["p1"]
        assert pod.ended == "finished"
        await agree(oracle, pod)


async def test_a_namespace_deleted_while_the_exporter_was_down_is_billed(metered: Running) -> None:
    """Its pods wait for their meter, and it for its pods; then both go, and the bill stays."""
    doomed = f"{metered.namespace}-doomed"
    await metered.client.create(NAMESPACES, {"metadata": {"name": doomed}})
    with metered.oracle(doomed) as oracle:
        for number in range(3):
            await metered.pod(f"p{number}", namespace=doomed)
        for number in range(3):
            await metered.until(f"p{number}", running, doomed)
        await asyncio.sleep(1.1)
        await metered.client.delete(NAMESPACES, doomed)
        for number in range(3):
            await metered.until(f"p{number}", lambda pod: pod["status"]["phase"] in ("Succeeded", "Failed"), doomed)
        await metered.start()
        for number in range(3):
            await metered.gone(f"p{number}", doomed)
        status, text = await metered.get(f"/api/v1/segments?namespace={doomed}", "auditor")
        assert status == 200, text
        pods = SegmentReport.model_validate_json(text).pods
        assert {(pod.pod, pod.ended) for pod in pods} == {(f"p{number}", "finished") for number in range(3)}
        await agree(oracle, *pods)
    status, text = await metered.get(f"/api/v1/cost?namespace={doomed}", "auditor")
    (cost,) = CostReport.model_validate_json(text).endpoints
    assert (status, cost.replicas) == (200, 3) and float(cost.total) > 0


async def test_a_forced_deletion_ends_when_the_container_did(metered: Running) -> None:
    with metered.oracle() as oracle:
        await metered.start()
        await metered.pod("p1")
        await metered.until("p1", running)
        await asyncio.sleep(1.1)
        await metered.delete("p1", grace=0)
        await metered.gone("p1")
        pod = (await metered.segments())["p1"]
        assert pod.ended == "finished"
        await agree(oracle, pod)


async def test_an_image_that_cannot_be_pulled_is_blocked_and_a_pod_without_room_is_only_queued(
    metered: Running,
) -> None:
    await metered.start()
    await metered.pod("stuck", image="localhost/zerotide/absent:1")
    await metered.pod("large", gpus=64)
    await metered.until(
        "stuck",
        lambda pod: (
            (pod["status"].get("containerStatuses") or [{}])[0].get("state", {}).get("waiting", {}).get("reason")
            == "ImagePullBackOff"
        ),
    )
    for name in ("stuck", "large"):
        await metered.delete(name)
        await metered.gone(name)
    pods = await metered.segments()
    assert {"provisioning", "blocked"} <= {segment.phase for segment in pods["stuck"].segments}
    assert {segment.phase for segment in pods["large"].segments} <= {"queued"}
    assert allocated_seconds(pods["stuck"]) > 0
    assert allocated_seconds(pods["large"]) == 0


async def test_usage_is_billed_to_its_consumers_and_read_by_those_who_may(metered: Running) -> None:
    await metered.start()
    made = await metered.pod("p1")
    ready = await metered.until("p1", running)
    started = ready["status"]["containerStatuses"][0]["state"]["running"]["startedAt"]
    start_us = int(datetime.fromisoformat(started).timestamp() * 1e6) + 1_000_000
    await asyncio.sleep(2)
    intent = Intent(
        request_id="r1",
        attempt=1,
        namespace=metered.namespace,
        endpoint="smollm2",
        endpoint_uid="",
        consumer=f"{metered.namespace}/team-a",
        pod_uid=made["metadata"]["uid"],
        activator="a1",
        model="smollm2",
        stream=False,
        cold=True,
        accepted_us=start_us,
        forwarded_us=start_us,
        request_bytes=1,
    )
    settlement = Settlement(
        request_id="r1",
        attempt=1,
        ended_us=start_us + 500_000,
        response_bytes=1,
        tokens=Tokens(input=30, output=8),
        outcome=Outcome.COMPLETED,
        status=200,
    )
    url = f"http://127.0.0.1:{metered.port}/internal/usage"
    answers = []
    for account, audience in (("stranger", "zerotide-exporter"), ("activator", ""), ("activator", "zerotide-exporter")):
        token = await metered.client.token(account, metered.namespace, audience)
        headers = {"Authorization": f"Bearer {token}"}
        async with aiohttp.ClientSession() as session:
            body = intent.encode() + settlement.encode()
            async with session.post(url, data=body, headers=headers) as answer:
                answers.append(answer.status)
    assert answers == [403, 401, 204]
    assert (await metered.get(f"/api/v1/cost?namespace={metered.namespace}", "stranger"))[0] == 403
    status, text = await metered.get(f"/api/v1/cost?namespace={metered.namespace}")
    assert status == 200
    (cost,) = CostReport.model_validate_json(text).endpoints
    assert {each.consumer: each.active_us for each in cost.consumers} == {
        f"{metered.namespace}/team-a": 500_000,
        f"{metered.namespace}/smollm2": 0,
    }
    assert (cost.tokens.requests, cost.tokens.input, cost.tokens.output) == (1, 30, 8)
    await metered.delete("p1")
    await metered.gone("p1")


async def test_an_endpoints_class_prices_its_replicas(metered: Running) -> None:
    endpoint = {
        "apiVersion": INFERENCE_ENDPOINTS.api_version,
        "kind": INFERENCE_ENDPOINTS.kind,
        "metadata": {"name": "smollm2", "namespace": metered.namespace},
        "spec": {
            "model": {"uri": "image:///models/smollm2"},
            "accelerator": {"className": "nvidia-a100-80gb"},
            "billing": {"consumer": "team-a"},
            "suspend": True,
        },
    }
    await metered.client.create(INFERENCE_ENDPOINTS, endpoint)
    await metered.start()
    await metered.lived("p1")
    status, text = await metered.get(f"/api/v1/cost?namespace={metered.namespace}&endpoint=smollm2")
    assert status == 200
    (cost,) = CostReport.model_validate_json(text).endpoints
    assert cost.accelerator == "nvidia-a100-80gb"
    assert [each.consumer for each in cost.consumers] == [f"{metered.namespace}/team-a"]


async def test_a_price_book_of_the_cluster_replaces_the_price_file(metered: Running) -> None:
    price = {"meter": "AcceleratorTime", "acceleratorClassName": "nvidia-h100-80gb", "per": "Second"}
    begun, later = "2026-01-01T00:00:00Z", "2100-01-01T00:00:00Z"
    book = {
        "apiVersion": PRICE_BOOKS.api_version,
        "kind": PRICE_BOOKS.kind,
        "metadata": {"name": metered.namespace},
        "spec": {
            "currency": "EUR",
            "prices": [
                {**price, "name": "now", "amount": "0.5", "validFrom": begun},
                {**price, "name": "then", "amount": "0.7", "validFrom": later},
            ],
            "phaseMultipliers": [{"phase": "Blocked", "multiplier": "1"}],
        },
    }

    async def created() -> bool:
        try:
            await metered.client.create(PRICE_BOOKS, book)
        except NotFound:  # the kind is not served yet
            return False
        return True

    await eventually(created)
    try:
        await metered.start()
        await metered.lived("p1")
        seconds = allocated_seconds((await metered.known("p1"))["p1"])
        status, text = await metered.get(f"/api/v1/cost?namespace={metered.namespace}")
        report = CostReport.model_validate_json(text)
        assert (status, report.currency) == (200, "EUR")
        assert float(report.total) == seconds * 0.5
        status, text = await metered.get(f"/api/v1/verify?namespace={metered.namespace}")
        verified = Verification.model_validate_json(text)
        assert (status, verified.differences, verified.checks[0].checked) == (200, 0, 1)
    finally:
        await metered.client.delete(PRICE_BOOKS, metered.namespace)


@pytest.mark.parametrize("kept", [pytest.param("sqlite", marks=pytest.mark.soak), "postgres"])
async def test_killed_under_churn_every_pod_adds_up(
    kept: str, exporter_cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The exporter, and its database where it has one, are killed while pods come and go."""
    rng = random.Random(7)
    with Database() if kept == "postgres" else nullcontext(None) as database:
        address = database.address if database else ""
        async with world(exporter_cluster, tmp_path, monkeypatch, address) as metered:
            with metered.oracle() as oracle:
                await metered.start()

                async def lives(name: str) -> None:
                    await metered.pod(name, gpus=rng.randrange(2))
                    await metered.until(name, running)
                    await asyncio.sleep(rng.uniform(1.1, 3))
                    await metered.delete(name, rng.choice([None, 0]))

                churning = asyncio.gather(*(lives(f"p{number}") for number in range(6)))
                for _ in range(4):
                    await asyncio.sleep(rng.uniform(0.5, 2.5))
                    if database is not None:
                        await asyncio.to_thread(database.kill)
                    await metered.end(signal.SIGKILL)
                    if database is not None:
                        await asyncio.to_thread(database.start)
                    await metered.start()
                await churning
                for number in range(6):
                    await metered.gone(f"p{number}")
                pods = await metered.segments()
                assert {pod.ended for pod in pods.values()} == {"finished"} and len(pods) == 6
                await agree(oracle, *pods.values())
