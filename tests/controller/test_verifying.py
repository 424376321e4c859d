"""On a real cluster: a spec is proven to start without a request, and what cannot start is tried boundedly often."""

from __future__ import annotations

from typing import Any

from tests.controller.rig import Rig, trivial
from zerotide.kube.resources import INFERENCE_ENDPOINTS

Object = dict[str, Any]


def condition(obj: Object | None) -> Object:
    """Return the condition Verified of an endpoint."""
    listed = ((obj or {}).get("status") or {}).get("conditions") or []
    return next((each for each in listed if each["type"] == "Verified"), {})


async def verified(rig: Rig, namespace: str, status: str, generation: int) -> Object:
    """Wait until the condition is so for a generation of the spec; return the endpoint."""

    def holds(obj: Object | None) -> bool:
        seen = condition(obj)
        return seen.get("status") == status and seen["observedGeneration"] == generation

    found = await rig.until(INFERENCE_ENDPOINTS, namespace, "a", holds, timeout=90)
    assert found is not None
    return found


async def test_a_spec_is_proven_and_sleeps_again(rig: Rig) -> None:
    """A new one, and a changed one; with an idle timeout far away."""
    namespace = await rig.namespace()
    spec = trivial(start={"verify": "OnChange"}, scaling={"idle": {"timeout": "10m"}})
    await rig.apply(namespace, "a", spec)
    await verified(rig, namespace, "True", 1)
    status = await rig.state(namespace, "a", "Asleep", timeout=60)
    assert [each["reason"] for each in status["decisions"]] == ["Verified", "Verify"]
    spec["runtime"]["env"] = [{"name": "EVENTS", "value": "3"}]
    await rig.apply(namespace, "a", spec)
    await verified(rig, namespace, "True", 2)
    status = await rig.state(namespace, "a", "Asleep", timeout=60)
    assert [each["reason"] for each in status["decisions"]] == ["Verified", "Verify"] * 2


async def test_a_spec_that_cannot_start_is_told(rig: Rig) -> None:
    """After as many starts as failures are allowed it is left alone, until it is mended."""
    namespace = await rig.namespace()
    start = {"verify": "OnChange", "maxFailures": 1}
    await rig.apply(namespace, "a", trivial(start=start, runtime={"env": [{"name": "EXIT_CODE", "value": "3"}]}))
    found = await verified(rig, namespace, "False", 1)
    seen = condition(found)
    assert seen["reason"] == "CrashLooping" and "exit code 3" in seen["message"]
    assert found["status"]["verification"]["failures"] == 1
    await rig.replicas(namespace, "a", 0)
    await rig.apply(namespace, "a", trivial(start=start))
    await verified(rig, namespace, "True", 2)
