"""On a real cluster: what packs pods onto fewer nodes may not evict a model that loads, and may one that serves."""

from __future__ import annotations

import pytest

from tests.controller.rig import Object, Rig, trivial
from zerotide.kube import TooManyRequests
from zerotide.kube.resources import PDBS, PODS


async def evict(rig: Rig, pod: Object) -> None:
    """Ask for an eviction, as cluster autoscalers do."""
    metadata = {name: pod["metadata"][name] for name in ("name", "namespace")}
    body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": metadata}
    await rig.client.request("POST", PODS.path(metadata["namespace"], metadata["name"], "eviction"), body=body)


async def test_a_model_that_loads_is_not_evicted(rig: Rig) -> None:
    """Once its start takes long; when it serves its budget is gone, and it may be moved like any other."""
    namespace = await rig.namespace()
    slow = trivial(runtime={"env": [{"name": "DELAY_MS", "value": "18000"}]})
    await rig.apply(namespace, "a", slow)
    await rig.state(namespace, "a", "Asleep")
    await rig.demand(namespace, "a", in_flight=1)
    await rig.wake(namespace, "a")
    await rig.state(namespace, "a", "Loading", timeout=60)

    def heeded(obj: Object | None) -> bool:
        status = (obj or {}).get("status") or {}
        return obj is not None and status.get("observedGeneration") == obj["metadata"]["generation"]

    found = await rig.until(PDBS, namespace, "a", heeded)
    assert found is not None and found["status"]["disruptionsAllowed"] == 0
    (pod,) = (await rig.client.list(PODS, namespace, label_selector="zerotide.dev/endpoint=a")).items
    with pytest.raises(TooManyRequests):
        await evict(rig, pod)
    await rig.state(namespace, "a", "Awake", timeout=60)
    assert await rig.until(PDBS, namespace, "a", lambda obj: obj is None) is None
    await evict(rig, pod)
