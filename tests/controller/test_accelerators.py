"""On a real cluster: accelerators are found by class, and by the next class where one has no room."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from e2e.cluster.addons import GPU_PRODUCT
from tests.controller.rig import Object, Rig, trivial
from zerotide.kube.resources import ACCELERATOR_CLASSES, NAMESPACES, PODS

SPECS = {
    "test-nowhere": {"nodeSelector": {"nvidia.com/gpu.product": "NVIDIA-NONE"}},
    "test-here": {"nodeSelector": {"nvidia.com/gpu.product": GPU_PRODUCT}},
}


@pytest.fixture
async def classes(rig: Rig) -> AsyncIterator[None]:
    """Have a class that no node has, and one that the node has."""
    for name, spec in SPECS.items():
        await rig.client.apply(ACCELERATOR_CLASSES, {"metadata": {"name": name}, "spec": spec}, "tests")
    yield
    for name in SPECS:
        await rig.client.delete(ACCELERATOR_CLASSES, name)


async def replica(rig: Rig, namespace: str) -> Object:
    """Return the one pod that is not leaving."""
    pods = (await rig.client.list(PODS, namespace, label_selector="zerotide.dev/endpoint=a")).items
    (found,) = (pod for pod in pods if "deletionTimestamp" not in pod["metadata"])
    return found


@pytest.mark.usefixtures("classes")
async def test_the_next_class_is_taken_where_the_first_has_no_room(rig: Rig) -> None:
    """The wake goes on, the status tells on what, and the pod says what is to be billed."""
    namespace = await rig.namespace()
    accelerator = {"className": "test-nowhere", "alternatives": [{"className": "test-here", "count": 2}]}
    spec = trivial(accelerator=accelerator, start={"capacityTimeout": "2s"}, hold={"coldTimeout": "5m"})
    await rig.apply(namespace, "a", spec)
    status = await rig.state(namespace, "a", "Asleep")
    assert status["accelerator"]["summary"] == "1 × test-nowhere"
    await rig.demand(namespace, "a", held=1)
    await rig.wake(namespace, "a")
    await rig.state(namespace, "a", "WaitingForCapacity")
    status = await rig.state(namespace, "a", "Awake", timeout=60)
    assert status["accelerator"] == {"className": "test-here", "count": 2, "summary": "2 × test-here"}
    pod = await replica(rig, namespace)
    assert pod["metadata"]["labels"]["zerotide.dev/accelerator-class"] == "test-here"
    assert pod["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "2"
    await rig.demand(namespace, "a")
    status = await rig.state(namespace, "a", "Asleep", timeout=60)
    assert status["accelerator"]["className"] == "test-nowhere", "a wake begins with the first choice"


async def test_a_part_of_a_device_says_so_on_its_pod(rig: Rig) -> None:
    """One of it is taken, two are refused with what to do."""
    part = {"className": "test-here", "denominator": 4}
    spec = {"sharing": "TimeSlice", "memory": "20Gi", "partOf": part}
    await rig.client.apply(ACCELERATOR_CLASSES, {"metadata": {"name": "test-quarter"}, "spec": spec}, "tests")
    try:
        namespace = await rig.namespace()
        await rig.apply(namespace, "a", trivial(accelerator={"className": "test-quarter", "count": 2}))
        status = await rig.state(namespace, "a", "Failed")
        ready = next(item for item in status["conditions"] if item["type"] == "Ready")
        assert ready["reason"] == "InvalidPodTemplate" and "one test-quarter only, not 2" in ready["message"]
        await rig.apply(namespace, "a", trivial(accelerator={"className": "test-quarter"}))
        await rig.state(namespace, "a", "Asleep")
        await rig.wake(namespace, "a")
        await rig.state(namespace, "a", "Awake", timeout=60)
        pod = await replica(rig, namespace)
        assert pod["metadata"]["annotations"]["zerotide.dev/accelerator-part"] == "1/4 test-here"
    finally:
        await rig.client.delete(ACCELERATOR_CLASSES, "test-quarter")


async def test_a_class_is_for_some_namespaces(rig: Rig) -> None:
    """Elsewhere it is refused with what to do, until the namespace has the label."""
    selector = {"matchLabels": {"accelerators": "ours"}}
    spec = {"namespaceSelector": selector}
    await rig.client.apply(ACCELERATOR_CLASSES, {"metadata": {"name": "test-ours"}, "spec": spec}, "tests")
    try:
        namespace = await rig.namespace()
        await rig.apply(namespace, "a", trivial(accelerator={"className": "test-ours"}))
        status = await rig.state(namespace, "a", "Failed")
        ready = next(item for item in status["conditions"] if item["type"] == "Ready")
        assert ready["reason"] == "PodRefused" and "may not use test-ours" in ready["message"]
        labels = {"metadata": {"labels": selector["matchLabels"]}}
        await rig.client.patch(NAMESPACES, namespace, None, labels)
        status = await rig.state(namespace, "a", "Asleep")
        assert status["accelerator"]["className"] == "test-ours"
    finally:
        await rig.client.delete(ACCELERATOR_CLASSES, "test-ours")
