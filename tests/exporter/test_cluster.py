"""The exporter on a real cluster: real pods, a real kubelet's stamps, an oracle that shares no code with the fold."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections.abc import AsyncIterator
from contextlib import nullcontext
from datetime import datetime
from pathlib import Path

import aiohttp
import pytest

from e2e.cluster import Cluster
from e2e.postgres import Database
from tests.exporter.budgeting import KIND
from tests.exporter.metered import (
    FINALIZER,
    Running,
    agree,
    allocated_seconds,
    backs_off,
    backs_off_or_in,
    eventually,
    running,
    world,
)
from tests.exporter.receiver import KEY, SECRET, Receiver
from zerotide.api.usage import Intent, Outcome, Settlement, Tokens
from zerotide.billing.reports import CostReport, SegmentReport
from zerotide.billing.statements import Verification
from zerotide.kube import NotFound
from zerotide.kube.resources import (
    BUDGETS,
    INFERENCE_ENDPOINTS,
    NAMESPACES,
    PRICE_BOOKS,
    SECRETS,
)


@pytest.fixture
async def metered(exporter_cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Running]:
    """Prepare a namespace of a local cluster, whose node has GPUs; the exporter is not started yet."""
    async with world(exporter_cluster, tmp_path, monkeypatch) as made:
        yield made


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


async def test_an_engine_that_dies_blocks_its_pod_until_it_runs_again(metered: Running) -> None:
    """It is restarted at once the first time, within a second; sooner or later the kubelet backs off."""
    with metered.oracle() as oracle:
        await metered.start()
        uid = (await metered.pod("p1"))["metadata"]["uid"]
        for number in range(9):
            found = await metered.until("p1", backs_off_or_in(number))
            if backs_off(found):
                break
            await asyncio.sleep(1.1)  # so that no two runs begin in the same second
            if number == 1:
                await eventually(lambda: metered.is_in("p1", "idle_cooldown"))
            await metered.kill(found)
        assert 2 <= number < 9
        await asyncio.sleep(1.1)
        before = int(time.time())
        await metered.delete("p1")
        after = int(time.time())
        await metered.gone("p1")
        pod = (await metered.segments())["p1"]
        await eventually(lambda: asyncio.to_thread(oracle.runs, uid))
        runs = oracle.runs(uid)
    end = pod.allocated_to_us // 1_000_000
    assert before <= end <= max(after, runs[-1][1]), "until its deletion it may start again, and has its device"
    edges = [*(start for start, _ in runs[1:]), end]
    blocked = [(each.from_us / 1e6, each.to_us / 1e6) for each in pod.segments if each.phase == "blocked"]
    assert blocked == [(low, high) for (_, low), high in zip(runs, edges, strict=True) if low < high]
    assert (pod.ended, pod.flags) == ("finished", ())
    assert pod.allocated_from_us // 1_000_000 == oracle.held()[uid].start and allocated_seconds(pod) > 0


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


async def test_a_budget_tells_its_webhook_once_though_the_exporter_is_killed(metered: Running) -> None:
    """What was told is in the status, by a field manager of its own beside what is used up."""
    namespace = metered.namespace
    metered.flags = ("--egress-allow", "127.0.0.0/8,::1/128")
    await metered.client.create(
        SECRETS, {"metadata": {"namespace": namespace, "name": "ops"}, "stringData": {"secret": SECRET}}
    )
    async with Receiver() as receiver:
        spec = {
            "limit": {"type": "AcceleratorSeconds", "acceleratorSeconds": 2},
            "thresholds": [{"percent": 50, "action": "Notify"}],
            "notify": [{"name": "ops", "url": receiver.url, "secretRef": {"name": "ops"}}],
        }
        await metered.client.create(BUDGETS, {**KIND, "metadata": {"namespace": namespace, "name": "b"}, "spec": spec})
        await metered.start()
        await metered.pod("p1", gpus=2)
        (got,) = await receiver.until(1, timeout=90)
        assert got.signed_by(KEY)
        assert (got.content["data"]["namespace"], got.content["data"]["percent"]) == (namespace, 50)

        async def written() -> bool:
            status = (await metered.client.get(BUDGETS, "b", namespace)).get("status") or {}
            delivered = [(each["id"], each["state"]) for each in status.get("deliveries") or ()]
            return delivered == [(got.id, "Delivered")] and [each["percent"] for each in status["reached"]] == [50]

        await eventually(written)
        await metered.end(signal.SIGKILL)
        await metered.start()

        ratios: set[str] = set()

        async def looked() -> bool:
            _, text = await metered.get("/metrics")
            ratios.update(line for line in text.splitlines() if line.startswith("zerotide_budget_used_ratio{"))
            return len(ratios) > 2

        await eventually(looked)
        assert len(receiver.got) == 1 and await written()
    assert await metered.end() == 0
