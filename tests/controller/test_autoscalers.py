"""On a real cluster: autoscalers of others drive an endpoint through its /scale, by the metrics that they are given."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from e2e.cluster.layout import NODE_ADDRESS
from tests.controller.metricsapi import GROUPS
from tests.controller.rig import ROOT, SYSTEM, Process, Rig, trivial
from zerotide.kube import Conflict, NotFound, Resource
from zerotide.kube.resources import DEPLOYMENTS, ENDPOINT_SLICES, INFERENCE_ENDPOINTS, SERVICES

AUTOSCALERS = Resource("autoscaling", "v2", "horizontalpodautoscalers", "HorizontalPodAutoscaler")
API_SERVICES = Resource("apiregistration.k8s.io", "v1", "apiservices", "APIService", namespaced=False)
TARGET = {"apiVersion": "zerotide.dev/v1alpha1", "kind": "InferenceEndpoint", "name": "a"}
PORT = 19443


@pytest.fixture
async def metrics(rig: Rig, tmp_path: Path) -> AsyncIterator[Process]:
    """Have the cluster's API servers of metrics answered by a stand-in."""
    command = [str(ROOT / "tests/controller/metricsapi.py"), "--address", NODE_ADDRESS, "--port", str(PORT)]
    process = await asyncio.to_thread(lambda: Process(rig.cluster, command, tmp_path / "metrics.log"))
    assert process.popen.stdout is not None
    assert await asyncio.to_thread(process.popen.stdout.readline) == b"ready\n"
    metadata = {"name": "metrics", "namespace": SYSTEM, "labels": {"kubernetes.io/service-name": "metrics"}}
    await rig.client.apply(SERVICES, {"metadata": metadata, "spec": {"ports": [{"port": 443}]}}, "tests")
    addresses = {"addressType": "IPv4", "endpoints": [{"addresses": [NODE_ADDRESS]}], "ports": [{"port": PORT}]}
    await rig.client.apply(ENDPOINT_SLICES, {"metadata": metadata, **addresses}, "tests")
    for group, version in GROUPS.items():
        service = {"name": "metrics", "namespace": SYSTEM, "port": 443}
        spec = {"group": group, "version": version, "service": service, "insecureSkipTLSVerify": True}
        priorities = {"groupPriorityMinimum": 100, "versionPriority": 100}
        await rig.client.apply(
            API_SERVICES, {"metadata": {"name": f"{version}.{group}"}, "spec": {**spec, **priorities}}, "tests"
        )
    try:
        yield process
    finally:
        # A group that nobody answers for would keep every namespace from being deleted.
        for group, version in GROUPS.items():
            await rig.client.delete(API_SERVICES, f"{version}.{group}")
        for resource in (SERVICES, ENDPOINT_SLICES):
            with contextlib.suppress(NotFound):
                await rig.client.delete(resource, "metrics", SYSTEM)
        process.kill()


def autoscaler(namespace: str, metric: dict[str, Any], most: int) -> dict[str, Any]:
    """Return an autoscaler of the endpoint `a` that does not wait before it takes replicas away."""
    behavior = {"scaleDown": {"stabilizationWindowSeconds": 0}}
    bounds = {"minReplicas": 1, "maxReplicas": most}
    spec = {"scaleTargetRef": TARGET, **bounds, "metrics": [metric], "behavior": behavior}
    return {"metadata": {"name": "a", "namespace": namespace}, "spec": spec}


async def pin(rig: Rig, namespace: str, replicas: int) -> None:
    """Scale the endpoint as a person does."""
    body = {"spec": {"replicas": replicas}}
    await rig.client.patch(INFERENCE_ENDPOINTS, "a", namespace, body, subresource="scale", manager="kubectl")


async def put(rig: Rig, namespace: str, replicas: int) -> dict[str, Any]:
    """Scale the endpoint as KEDA 2.21 does (pkg/scaling/executor): put back what it read; return what that was."""
    path = INFERENCE_ENDPOINTS.path(namespace, "a", "scale")
    while True:
        seen = await rig.client.request("GET", path)
        # Where the status was written meanwhile it tries again at its next look.
        with contextlib.suppress(Conflict):
            # Go leaves a zero out.
            await rig.client.request("PUT", path, body={**seen, "spec": {"replicas": replicas} if replicas else {}})
            return seen


async def condition(rig: Rig, namespace: str, kind: str, reason: str) -> str:
    """Wait until a condition of the autoscaler has a reason; return its message."""

    def found(obj: dict[str, Any] | None) -> list[dict[str, Any]]:
        conditions = ((obj or {}).get("status") or {}).get("conditions") or []
        return [item for item in conditions if (item["type"], item["reason"]) == (kind, reason)]

    seen = await rig.until(AUTOSCALERS, namespace, "a", lambda obj: bool(found(obj)), 60)
    return str(found(seen)[0]["message"])


async def asleep(rig: Rig, most: int) -> str:
    """Make a sleeping endpoint `a`; return its namespace."""
    namespace = await rig.namespace()
    await rig.apply(namespace, "a", trivial(scaling={"maxReplicas": most}))
    await rig.state(namespace, "a", "Asleep")
    return namespace


PODS = {"type": "Pods", "pods": {"metric": {"name": "load"}, "target": {"type": "AverageValue", "averageValue": "10"}}}
OUTSIDE = {
    "type": "External",
    "external": {"metric": {"name": "queue"}, "target": {"type": "AverageValue", "averageValue": "10"}},
}


async def test_an_autoscaler_moves_replicas_by_the_load_of_their_pods(rig: Rig, metrics: Process) -> None:
    """It finds the pods by the selector of /scale, adds replicas, takes them away, and nobody works against it."""
    namespace = await asleep(rig, most=3)
    metrics.tell({"name": "load", "value": 25})
    await rig.client.apply(AUTOSCALERS, autoscaler(namespace, PODS, most=3), "tests")
    assert "zero" in await condition(rig, namespace, "ScalingActive", "ScalingDisabled")
    assert (await rig.client.get(DEPLOYMENTS, "a", namespace))["spec"]["replicas"] == 0
    await pin(rig, namespace, 1)
    await rig.replicas(namespace, "a", 3, timeout=90)
    metrics.tell({"name": "load", "value": 1})
    await rig.replicas(namespace, "a", 1, timeout=90)
    await condition(rig, namespace, "ScalingActive", "ValidMetricFound")
    status = await rig.state(namespace, "a", "Awake", timeout=60)
    decisions = [item["reason"] for item in status["decisions"]]
    assert decisions[-3:] == ["Pinned"] * 3 and status["keptAwakeBy"] == "pinnedReplicas"
    assert not any(item["reason"] == "ExternalWriter" for item in status["conditions"])
    await pin(rig, namespace, 0)
    await rig.replicas(namespace, "a", 0, timeout=60)


async def test_an_autoscaler_may_not_ask_for_more_than_the_endpoint_may_have(rig: Rig, metrics: Process) -> None:
    """What exceeds maxReplicas is refused in words that name it, and what there is stays."""
    namespace = await asleep(rig, most=2)
    metrics.tell({"name": "queue", "value": 15})
    await pin(rig, namespace, 1)
    await rig.client.apply(AUTOSCALERS, autoscaler(namespace, OUTSIDE, most=4), "tests")
    await rig.replicas(namespace, "a", 2, timeout=90)
    metrics.tell({"name": "queue", "value": 35})
    assert "scaling.maxReplicas" in await condition(rig, namespace, "AbleToScale", "FailedUpdateScale")
    assert (await rig.client.get(DEPLOYMENTS, "a", namespace))["spec"]["replicas"] == 2


async def test_keda_wakes_an_endpoint_and_hands_it_back(rig: Rig, metrics: Process) -> None:
    """It writes 1, its autoscaler the numbers from there, then it writes 0: nothing that runs is cut off by that."""
    namespace = await asleep(rig, most=3)
    metrics.tell({"name": "queue", "value": 25})
    await rig.client.apply(AUTOSCALERS, autoscaler(namespace, OUTSIDE, most=3), "tests")
    seen = await put(rig, namespace, 1)
    assert (seen["spec"], seen["status"]) == ({}, {"replicas": 0, "selector": "zerotide.dev/endpoint=a"})
    await rig.replicas(namespace, "a", 3, timeout=90)
    stale = {**seen, "spec": {"replicas": 2}}
    with pytest.raises(Conflict):
        await rig.client.request("PUT", INFERENCE_ENDPOINTS.path(namespace, "a", "scale"), body=stale)
    await rig.state(namespace, "a", "Awake", timeout=60)
    await rig.demand(namespace, "a", in_flight=1)
    metrics.tell({"name": "queue", "value": 0})
    await rig.replicas(namespace, "a", 1, timeout=90)
    assert (await put(rig, namespace, 0))["spec"] == {"replicas": 1}
    await condition(rig, namespace, "ScalingActive", "ScalingDisabled")
    await asyncio.sleep(6)  # longer than the idle timeout
    assert (await rig.state(namespace, "a", "Awake"))["keptAwakeBy"] == "1 request in flight"
    await rig.demand(namespace, "a")
    await rig.state(namespace, "a", "Asleep", timeout=60)
    assert (await rig.client.get(INFERENCE_ENDPOINTS, "a", namespace))["spec"]["scaling"]["pinnedReplicas"] == 0
