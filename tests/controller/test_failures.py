"""On a real cluster: why a model does not start, told within seconds of Kubernetes knowing it; and that it heals."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.controller.rig import Object, Rig, trivial
from zerotide.kube.resources import DEPLOYMENTS, EVENTS, INFERENCE_ENDPOINTS, NODES, PODS

FAILURES: dict[str, tuple[Object, str]] = {
    "image": (trivial(runtime={"image": "zerotide/trivial:no-such-tag"}), "ImagePullFailed"),
    "crash": (trivial(runtime={"env": [{"name": "EXIT_CODE", "value": "3"}]}), "CrashLooping"),
    "oom": (
        trivial(
            runtime={"env": [{"name": "EAT_MB", "value": "400"}]},
            resources={"requests": {"memory": "16Mi"}, "limits": {"memory": "64Mi"}},
        ),
        "OutOfMemory",
    ),
    "never": (trivial(resources={"requests": {"memory": "9000Gi"}}), "NeverSchedulable"),
    "secret": (
        trivial(model={"uri": "image:///m", "secretRef": {"name": "absent"}}),
        "CredentialsMissing",
    ),
    "claim": (trivial(model={"uri": "pvc://absent/m"}), "VolumeFailed"),
    "template": (
        trivial(podTemplate={"spec": {"containers": [{"name": "model", "imagePullPolicy": "Perhaps"}]}}),
        "InvalidPodTemplate",
    ),
    "policy": (trivial(podTemplate={"spec": {"hostNetwork": True}}), "PodRefused"),
}


@pytest.mark.parametrize("name", list(FAILURES))
async def test_a_failing_start_is_explained_and_heals(rig: Rig, name: str) -> None:
    """Conditions and an Event carry the reason; a mended spec is accepted at once, and serves."""
    spec, reason = FAILURES[name]
    namespace = await rig.namespace()
    await rig.apply(namespace, name, spec)
    if reason in ("InvalidPodTemplate", "PodRefused"):
        status = await rig.state(namespace, name, "Failed")
    else:
        await rig.state(namespace, name, "Asleep")
        await rig.wake(namespace, name)
        status = await rig.state(namespace, name, "Failed", timeout=90)
    conditions = {item["type"]: item for item in status["conditions"]}
    assert [conditions[type_]["status"] for type_ in ("Ready", "Accepting", "Stalled")] == ["False", "False", "True"]
    assert conditions["Ready"]["reason"] == reason, conditions["Ready"]
    assert len(conditions["Ready"]["message"]) > 20
    async with asyncio.timeout(10):
        selector = f"involvedObject.name={name},reason={reason}"
        while not (await rig.client.list(EVENTS, namespace, field_selector=selector)).items:
            await asyncio.sleep(0.1)
    await rig.apply(namespace, name, trivial())

    def accepting(obj: Object | None) -> bool:
        assert obj is not None
        status = obj["status"]
        of_type = {item["type"]: item["status"] for item in status["conditions"]}
        return bool(of_type["Accepting"] == "True" and status["observedGeneration"] == obj["metadata"]["generation"])

    healed = await rig.until(INFERENCE_ENDPOINTS, namespace, name, accepting, 15)
    assert healed is not None
    if not healed["status"]["desiredReplicas"]:
        await rig.wake(namespace, name)
    await rig.state(namespace, name, "Awake", timeout=60)


async def test_a_start_that_nobody_waits_for_is_given_up(rig: Rig) -> None:
    """After the idle timeout the pods of a hopeless start go, starts back off, and a new spec ends that at once."""
    namespace = await rig.namespace()
    await rig.apply(namespace, "a", trivial(resources={"requests": {"memory": "9000Gi"}}))
    await rig.state(namespace, "a", "Asleep")
    await rig.wake(namespace, "a")
    await rig.state(namespace, "a", "Failed")
    await rig.replicas(namespace, "a", 0, timeout=20)

    def backing_off(obj: Object | None) -> bool:
        conditions = {item["type"]: item for item in (obj or {})["status"]["conditions"]}
        return bool(conditions["Accepting"]["reason"] == "StartBackoff")

    found = await rig.until(INFERENCE_ENDPOINTS, namespace, "a", backing_off)
    assert found is not None
    failed = found["status"]["failedStarts"]
    assert (failed["count"], failed["reason"]) == (1, "NeverSchedulable")
    message = found["status"]["conditions"][0]["message"]
    assert failed["retryTime"] in message and "NeverSchedulable" in message
    await rig.apply(namespace, "a", trivial())
    await rig.state(namespace, "a", "Asleep")
    await rig.wake(namespace, "a")
    status = await rig.state(namespace, "a", "Awake", timeout=60)
    assert "failedStarts" not in status


async def test_taken_accelerators_are_waited_for(rig: Rig) -> None:
    """A pod that no node has room for now is not hopeless; it starts when room is made."""
    namespace = await rig.namespace()
    node = (await rig.client.list(NODES)).items[0]
    total = int(node["status"]["allocatable"]["nvidia.com/gpu"])
    await rig.apply(namespace, "taker", trivial(accelerator={"count": total}, scaling={"pinnedReplicas": 1}))
    await rig.state(namespace, "taker", "Awake", timeout=60)
    await rig.apply(namespace, "a", trivial(accelerator={"count": 1}))
    await rig.state(namespace, "a", "Asleep")
    await rig.demand(namespace, "a", held=1)
    await rig.wake(namespace, "a")
    status = await rig.state(namespace, "a", "WaitingForCapacity")
    conditions = {item["type"]: item for item in status["conditions"]}
    assert [conditions[type_]["status"] for type_ in ("Ready", "Accepting", "Stalled")] == ["True", "True", "False"]
    told = (
        f"it waits for 1 × nvidia.com/gpu; of {total} nvidia.com/gpu on all nodes endpoints hold {total}: taker {total}"
    )
    assert conditions["Ready"]["message"].endswith(told), conditions["Ready"]["message"]
    await rig.client.delete(INFERENCE_ENDPOINTS, "taker", namespace)
    await rig.state(namespace, "a", "Awake", timeout=60)


async def test_capacity_that_does_not_come_is_told(rig: Rig) -> None:
    """After start.capacityTimeout clients are answered; the pod goes on waiting."""
    namespace = await rig.namespace()
    node = (await rig.client.list(NODES)).items[0]
    total = int(node["status"]["allocatable"]["nvidia.com/gpu"])
    await rig.apply(namespace, "taker", trivial(accelerator={"count": total}, scaling={"pinnedReplicas": 1}))
    await rig.state(namespace, "taker", "Awake", timeout=60)
    start = {"capacityTimeout": "3s", "deadline": "10m"}
    await rig.apply(namespace, "a", trivial(accelerator={"count": 1}, start=start))
    await rig.state(namespace, "a", "Asleep")
    await rig.demand(namespace, "a", held=1)

    def refused(obj: Object | None) -> bool:
        conditions = {item["type"]: item for item in ((obj or {}).get("status") or {}).get("conditions") or []}
        accepting: dict[str, Any] = conditions.get("Accepting", {})
        return (accepting.get("status"), accepting.get("reason")) == ("False", "Unschedulable")

    found = await rig.until(INFERENCE_ENDPOINTS, namespace, "a", refused)
    assert found is not None and found["status"]["state"] == "WaitingForCapacity"
    assert len((await rig.client.list(PODS, namespace, label_selector="zerotide.dev/endpoint=a")).items) == 1
    await rig.demand(namespace, "a")
    await rig.replicas(namespace, "a", 0)
    await rig.state(namespace, "a", "Asleep")


async def test_a_start_that_takes_too_long_is_given_up(rig: Rig) -> None:
    """The deadline runs from the node to readiness; the reason is told before the pod goes."""
    namespace = await rig.namespace()
    env = [{"name": "DELAY_MS", "value": "600000"}]
    start = {"deadline": "10s", "capacityTimeout": "10m"}
    await rig.apply(namespace, "a", trivial(runtime={"env": env}, start=start))
    await rig.state(namespace, "a", "Asleep")
    await rig.wake(namespace, "a")
    status = await rig.state(namespace, "a", "Failed", timeout=30)
    assert status["conditions"][0]["reason"] == "StartDeadlineExceeded"
    await rig.replicas(namespace, "a", 0)
    live = await rig.client.get(DEPLOYMENTS, "a", namespace)
    assert live["spec"]["replicas"] == 0
