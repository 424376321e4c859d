"""On a real cluster: what an endpoint is made of, drift, foreign objects, quiet, deletion."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.controller.rig import TRIVIAL, Rig, trivial
from zerotide.controller.reconciler import GOOD_NEWS
from zerotide.kube import Client, NotFound, Resource
from zerotide.kube.resources import (
    DEPLOYMENTS,
    ENDPOINT_SLICES,
    EVENTS,
    INFERENCE_ENDPOINTS,
    NETWORK_POLICIES,
    PDBS,
    PODS,
    SERVICE_ACCOUNTS,
    SERVICES,
)

CHILDREN = (DEPLOYMENTS, SERVICES, ENDPOINT_SLICES, SERVICE_ACCOUNTS, NETWORK_POLICIES)


async def versions(client: Client, namespace: str, name: str, resources: tuple[Resource, ...]) -> dict[str, str]:
    """Return the resourceVersions of objects."""
    found = {}
    for resource in resources:
        obj = await client.get(resource, name, namespace)
        found[resource.kind] = obj["metadata"]["resourceVersion"]
    return found


async def test_an_endpoint_gets_its_children_and_sleeps(rig: Rig) -> None:
    """Everything is made, owned by the endpoint, and it starts asleep without a wake."""
    namespace = await rig.namespace()
    await rig.apply(namespace, "a", trivial(scaling={"maxReplicas": 2}))
    status = await rig.state(namespace, "a", "Asleep")
    uid = (await rig.client.get(INFERENCE_ENDPOINTS, "a", namespace))["metadata"]["uid"]
    for resource in (*CHILDREN, PDBS):
        obj = await rig.until(resource, namespace, "a", lambda found: found is not None)
        assert obj is not None
        (owner,) = obj["metadata"]["ownerReferences"]
        assert (owner["uid"], owner["controller"]) == (uid, True), resource.kind
        assert obj["metadata"]["labels"]["zerotide.dev/endpoint"] == "a"
    assert (status["selector"], status["desiredReplicas"]) == ("zerotide.dev/endpoint=a", 0)
    ready = next(item for item in status["conditions"] if item["type"] == "Ready")
    assert (ready["status"], ready["reason"]) == ("True", "NeverServed")
    slice_ = await rig.client.get(ENDPOINT_SLICES, "a", namespace)
    assert slice_["endpoints"][0]["addresses"] == ["10.89.0.2"] and slice_["ports"][0]["port"] == 8080
    await rig.apply(namespace, "a", trivial())
    await rig.until(PDBS, namespace, "a", lambda found: found is None)


async def test_a_quiet_system_writes_nothing(rig: Rig) -> None:
    """For a minute nothing changes while nothing happens, asleep, awake or failed, nor after a restart."""
    namespace = await rig.namespace()
    await rig.apply(namespace, "asleep", trivial())
    await rig.apply(namespace, "awake", trivial(scaling={"pinnedReplicas": 1}))
    await rig.apply(namespace, "failed", trivial(podTemplate={"spec": {"hostNetwork": True}}))
    await rig.state(namespace, "asleep", "Asleep")
    await rig.state(namespace, "failed", "Failed")
    await rig.state(namespace, "awake", "Awake", timeout=60)
    await settled(rig, namespace, "awake")
    await asyncio.sleep(GOOD_NEWS + 1)  # Events that wait for a calmer moment

    async def everything() -> dict[str, Any]:
        kinds = (INFERENCE_ENDPOINTS, *CHILDREN)
        found: dict[str, Any] = {
            name: await versions(rig.client, namespace, name, kinds) for name in ("asleep", "awake")
        }
        found["failed"] = await versions(rig.client, namespace, "failed", (INFERENCE_ENDPOINTS, SERVICES))
        events = (await rig.client.list(EVENTS, namespace)).items
        found["events"] = {event["metadata"]["name"]: event["metadata"]["resourceVersion"] for event in events}
        return found

    before = await everything()
    assert any(name.startswith("failed.") for name in before["events"])
    await asyncio.sleep(60)  # a time in which nothing may happen cannot be awaited otherwise
    assert await everything() == before
    await rig.restart_operator()
    await asyncio.to_thread(rig.processes.wait_ready, rig.operator)
    await asyncio.sleep(15)
    assert await everything() == before, "nor does a successor tell anything twice"


async def settled(rig: Rig, namespace: str, name: str) -> None:
    """Wait until Kubernetes' own controllers have written what they write of a Deployment that is ready."""

    def ready(obj: dict[str, Any] | None) -> bool:
        status = (obj or {}).get("status") or {}
        generation = (obj or {"metadata": {}})["metadata"].get("generation")
        return status.get("availableReplicas") == 1 and status.get("observedGeneration") == generation

    await rig.until(DEPLOYMENTS, namespace, name, ready, 60)


async def test_drift_is_repaired_and_foreign_parts_survive(rig: Rig) -> None:
    """What is ours is put right; a sidecar, an annotation and a label of others stay."""
    namespace = await rig.namespace()
    await rig.apply(namespace, "a", trivial())
    await rig.state(namespace, "a", "Asleep")
    sidecar = {"name": "side", "image": TRIVIAL, "imagePullPolicy": "Never", "env": [{"name": "PORT", "value": "9"}]}
    template = {"metadata": {"annotations": {"theirs": "1"}}, "spec": {"containers": [sidecar]}}
    body = {
        "metadata": {"name": "a", "namespace": namespace, "labels": {"theirs": "1"}},
        "spec": {"template": template},
    }
    await rig.client.apply(DEPLOYMENTS, body, "somebody", force=False)
    wrong = {"spec": {"replicas": 3, "revisionHistoryLimit": 9}}
    await rig.client.patch(DEPLOYMENTS, "a", namespace, wrong)

    def right(obj: dict[str, Any] | None) -> bool:
        assert obj is not None
        return bool(obj["spec"]["replicas"] == 0 and obj["spec"]["revisionHistoryLimit"] == 2)

    repaired = await rig.until(DEPLOYMENTS, namespace, "a", right)
    assert repaired is not None
    assert [item["name"] for item in repaired["spec"]["template"]["spec"]["containers"]] == ["model", "side"]
    assert repaired["spec"]["template"]["metadata"]["annotations"]["theirs"] == "1"
    assert repaired["metadata"]["labels"]["theirs"] == "1"
    await rig.client.delete(SERVICES, "a", namespace)
    await rig.until(SERVICES, namespace, "a", lambda found: found is not None)


async def test_a_dropped_field_is_dropped(rig: Rig) -> None:
    """A variable that leaves the spec leaves the Deployment, although a POST brought it."""
    namespace = await rig.namespace()
    await rig.apply(
        namespace, "a", trivial(runtime={"env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]})
    )
    await rig.state(namespace, "a", "Asleep")
    await rig.apply(namespace, "a", trivial(runtime={"env": [{"name": "B", "value": "2"}]}))

    def without(obj: dict[str, Any] | None) -> bool:
        assert obj is not None
        env = obj["spec"]["template"]["spec"]["containers"][0]["env"]
        return {"A", "B"} & {item["name"] for item in env} == {"B"}

    await rig.until(DEPLOYMENTS, namespace, "a", without)


@pytest.mark.parametrize("resource", [SERVICES, DEPLOYMENTS], ids=lambda resource: resource.kind)
async def test_a_foreign_object_is_left_alone(rig: Rig, resource: Resource) -> None:
    """A name that is taken is told in a condition; once it is free, the endpoint goes on."""
    namespace = await rig.namespace()
    metadata = {"name": "taken", "namespace": namespace}
    selector = {"app": "mine"}
    if resource is SERVICES:
        spec: dict[str, Any] = {"selector": selector, "ports": [{"name": "http", "port": 1234}]}
    else:
        container = {"name": "c", "image": TRIVIAL}
        template = {"metadata": {"labels": selector}, "spec": {"containers": [container]}}
        spec = {"replicas": 0, "selector": {"matchLabels": selector}, "template": template}
    foreign = {"apiVersion": resource.api_version, "kind": resource.kind, "metadata": metadata, "spec": spec}
    await rig.client.create(resource, foreign)
    generation = (await rig.client.get(resource, "taken", namespace))["metadata"].get("generation")
    before = await rig.client.get(resource, "taken", namespace)
    await rig.apply(namespace, "taken", trivial())
    status = await rig.state(namespace, "taken", "Failed")
    ready = next(item for item in status["conditions"] if item["type"] == "Ready")
    assert ready["reason"] == "NameConflict" and resource.kind in ready["message"]
    await rig.wake(namespace, "taken")
    await rig.until(
        INFERENCE_ENDPOINTS,
        namespace,
        "taken",
        lambda obj: obj is not None and "handledWakeRequest" in obj["status"],
    )
    after = await rig.client.get(resource, "taken", namespace)
    assert after["spec"] == before["spec"] and after["metadata"].get("generation") == generation
    assert "ownerReferences" not in after["metadata"]
    if resource is SERVICES:
        slices = (await rig.client.list(ENDPOINT_SLICES, namespace)).items
        joined = [each["metadata"]["name"] for each in slices if "zerotide.dev/endpoint" in each["metadata"]["labels"]]
        assert joined == [], "a slice of ours would take the requests of that Service"
    await rig.client.delete(resource, "taken", namespace)
    await rig.state(namespace, "taken", "Asleep", timeout=40)


@pytest.mark.parametrize("when", ["asleep", "starting", "awake"])
async def test_deletion_leaves_nothing(rig: Rig, when: str) -> None:
    """Within 5 s every child and pod is gone, during a start as well."""
    namespace = await rig.namespace()
    env = [{"name": "DELAY_MS", "value": "20000"}] if when == "starting" else []
    await rig.apply(namespace, "a", trivial(runtime={"env": env}))
    await rig.state(namespace, "a", "Asleep")
    if when != "asleep":
        await rig.wake(namespace, "a")
        await rig.state(namespace, "a", *(["Awake"] if when == "awake" else ["Loading"]), timeout=60)
    await rig.client.delete(INFERENCE_ENDPOINTS, "a", namespace)
    async with asyncio.timeout(5):
        for resource in CHILDREN:
            await rig.until(resource, namespace, "a", lambda found: found is None)
        while (await rig.client.list(PODS, namespace)).items:
            await asyncio.sleep(0.1)
    with pytest.raises(NotFound):
        await rig.client.get(INFERENCE_ENDPOINTS, "a", namespace)
    await rig.apply(namespace, "a", trivial())
    await rig.state(namespace, "a", "Asleep")
