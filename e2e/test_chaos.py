"""Operator, activator and exporter are killed in turn under traffic; the system converges and the bill stays exact."""

from __future__ import annotations

import asyncio
import itertools
import json
from typing import Any

import pytest

from e2e import traffic
from e2e.harness import Json, System, chat, trivial, wait_until
from zerotide.api.scalars import parse_time
from zerotide.billing.reports import PodSegments, SegmentReport

COMPONENTS = ("operator", "activator", "exporter")


def settled(system: System) -> bool:
    """Tell whether every component has all its replicas ready."""
    listed = system.get("deployments", "-n", "zerotide-system")["items"]
    return all(item["status"].get("readyReplicas", 0) == item["spec"]["replicas"] for item in listed)


async def traffic_until(stop: asyncio.Event, url: str, key: str, answers: list[traffic.Answer]) -> None:
    """Send requests with pauses in which the endpoint falls asleep, until told to stop."""
    while not stop.is_set():
        answers += await traffic.burst(url, key, chat(), 3, timeout=90)
        await asyncio.sleep(1.0 if len(answers) % 2 else 7.0)


def replicas(system: System, namespace: str) -> dict[str, PodSegments]:
    """Return what the ledger knows of a namespace's pods, by uid, as its own API tells it."""
    path = "/api/v1/namespaces/zerotide-system/services/zerotide-exporter:http/proxy"
    token = system.kubectl("create", "token", "zerotide-reader", "-n", "zerotide-system").strip()
    report = SegmentReport.model_validate(system.report(f"{path}/api/v1/segments?namespace={namespace}", token))
    return {pod.pod_uid: pod for pod in report.pods}


@pytest.mark.parametrize("rounds", [1, pytest.param(8, marks=pytest.mark.soak)])
async def test_killing_every_process_loses_nothing(system: System, rounds: int) -> None:
    """After each kill requests are served again; for every pod the segments sum exactly to its allocation."""
    namespace = system.namespace()
    key = system.key(namespace, "k")
    system.endpoint(namespace, "chaos", trivial(idle="5s"))
    url = system.url(namespace, "chaos", "/v1/chat/completions")
    seen: dict[str, Json] = {}
    stop = asyncio.Event()
    answers: list[traffic.Answer] = []
    watching = asyncio.create_task(remember_pods(system, namespace, seen, stop))
    sending = asyncio.create_task(traffic_until(stop, url, key, answers))
    for _ in range(rounds):
        for component in COMPONENTS:
            await asyncio.to_thread(system.kill, component)
            await asyncio.sleep(5)
            await asyncio.to_thread(wait_until, f"recovered from {component}", lambda: settled(system), 120)
    stop.set()
    await sending
    final = await traffic.once(url, key, chat(), timeout=60)
    assert final.status == 200, final
    await asyncio.to_thread(system.wait_state, namespace, "chaos", "Asleep", timeout=60)
    await asyncio.to_thread(released, system, namespace)
    await watching
    unexpected = [answer for answer in answers if answer.status not in (0, 200, 502, 503)]
    assert not unexpected and sum(answer.status == 200 for answer in answers) >= len(answers) / 2, answers
    await asyncio.to_thread(compare_bill, system, namespace, seen)


def released(system: System, namespace: str) -> None:
    """Wait until the exporter has let go of every pod."""
    wait_until("all pods are released", lambda: not system.pods(namespace, "chaos"), 60)


async def remember_pods(system: System, namespace: str, seen: dict[str, Json], stop: asyncio.Event) -> None:
    """Keep the last sight of every pod: an oracle that is independent of the ledger."""
    pods: list[Json] = []
    while pods or not stop.is_set():
        pods = await asyncio.to_thread(system.pods, namespace, "chaos")
        seen.update({pod["metadata"]["uid"]: pod for pod in pods})
        await asyncio.sleep(0.1)


def compare_bill(system: System, namespace: str, seen: dict[str, Json]) -> None:
    """Check each pod's segments: no gap, no overlap, from PodScheduled to its end."""

    def all_there() -> dict[str, PodSegments] | None:
        known = replicas(system, namespace)
        return known if set(known) >= set(seen) else None

    known = wait_until("the ledger knows every pod", all_there, 30)
    assert len(seen) >= 2, "the endpoint slept and woke under traffic"
    for uid, pod in seen.items():
        own = [segment for segment in known[uid].segments if segment.phase != "queued"]
        for earlier, later in itertools.pairwise(own):
            assert earlier.to_us == later.from_us, "no gap, no overlap"
        start, end = allocation(pod)
        assert own[0].from_us == start == known[uid].allocated_from_us, json.dumps(pod["status"])[:2000]
        if end is not None:
            assert own[-1].to_us == end, json.dumps(pod["status"])[:2000]
            assert sum(segment.to_us - segment.from_us for segment in own) == end - start


def allocation(pod: dict[str, Any]) -> tuple[int, int | None]:
    """Return when a pod held its resources, in µs, from its own status; the end is None when it was not seen."""
    conditions = {c["type"]: c for c in pod["status"].get("conditions", [])}
    start = parse_time(conditions["PodScheduled"]["lastTransitionTime"])
    ends = [
        parse_time(status["state"]["terminated"]["finishedAt"])
        for status in pod["status"].get("containerStatuses", [])
        if status["state"].get("terminated", {}).get("finishedAt")
    ]
    terminal = pod["status"].get("phase") in ("Succeeded", "Failed")
    return start, max(ends) if ends and terminal else None
