"""On a real cluster: a replica is ready only once its engine generated a token, and its container's successor anew."""

from __future__ import annotations

from typing import Any

import pytest

from e2e.harness import kill_processes
from tests.controller.rig import Rig, trivial
from zerotide.api.names import CONDITION_TOKEN
from zerotide.kube import Resource
from zerotide.kube.resources import INFERENCE_ENDPOINTS, PODS

Object = dict[str, Any]
TOKEN = {"type": "Token"}


def token(engine: str, **spec: Any) -> Object:
    """Return a spec whose replicas have to generate a token.

    As TGI, the trivial image answers with text. As llama.cpp, it answers 200 "ok", as it does to anything: no token.
    """
    made = trivial(runtime={"engine": engine, "readiness": TOKEN}, **spec)
    return {**made, "model": {"uri": "image:///m.gguf"}}


async def pod_of(rig: Rig, namespace: str) -> Object:
    """Return the only pod that does not leave."""
    listed = await rig.client.list(PODS, namespace)
    (pod,) = (item for item in listed.items if "deletionTimestamp" not in item["metadata"])
    return pod


def conditions(pod: Object | None) -> dict[str, Object]:
    """Return the conditions of a pod."""
    return {item["type"]: item for item in ((pod or {}).get("status") or {}).get("conditions") or []}


async def condition(rig: Rig, namespace: str, name: str, said: str, resource: Resource = PODS) -> Object:
    """Wait until a pod's own condition says something; return all of them."""
    found = await rig.until(
        resource, namespace, name, lambda obj: said in conditions(obj).get(CONDITION_TOKEN, {}).get("message", "")
    )
    return conditions(found)


async def test_a_replica_is_ready_once_it_generated_a_token(rig: Rig) -> None:
    """And once its container died, only when the next one did."""
    namespace = await rig.namespace()
    await rig.apply(namespace, "a", token("tgi", scaling={"minReplicas": 1}))
    await rig.state(namespace, "a", "Awake", timeout=60)
    pod = await pod_of(rig, namespace)
    assert pod["spec"]["readinessGates"] == [{"conditionType": CONDITION_TOKEN}]
    known = conditions(pod)
    assert known["Ready"]["status"] == known[CONDITION_TOKEN]["status"] == "True"
    first = pod["status"]["containerStatuses"][0]["containerID"].rpartition("/")[2][:12]
    assert known[CONDITION_TOKEN]["message"] == f"container {first} generated a token"
    assert kill_processes(pod, "trivial")

    def proven_anew(obj: Object | None) -> bool:
        told = conditions(obj)
        message = told.get(CONDITION_TOKEN, {}).get("message", "")
        return "generated a token" in message and first not in message and told["Ready"]["status"] == "True"

    await rig.until(PODS, namespace, pod["metadata"]["name"], proven_anew, timeout=60)


async def test_an_engine_that_answers_and_generates_nothing_is_not_ready(rig: Rig) -> None:
    """Its kubelet's probe passes; who looks is told what it answered, and the start is given up at its deadline."""
    namespace = await rig.namespace()
    await rig.apply(namespace, "a", token("llamacpp", start={"deadline": "15s"}, hold={"coldTimeout": "1m"}))
    await rig.state(namespace, "a", "Asleep")
    await rig.demand(namespace, "a", held=1)
    await rig.wake(namespace, "a")
    await rig.replicas(namespace, "a", 1)
    said = "generated no token: POST /v1/completions: 200: ok"

    def told(obj: Object | None) -> bool:
        return said in conditions(obj).get("Ready", {}).get("message", "")

    found = await rig.until(INFERENCE_ENDPOINTS, namespace, "a", told)
    assert found is not None and found["status"]["state"] == "Loading"
    known = await condition(rig, namespace, (await pod_of(rig, namespace))["metadata"]["name"], said)
    assert (known["ContainersReady"]["status"], known["Ready"]["status"]) == ("True", "False")
    status = await rig.state(namespace, "a", "Failed", timeout=60)
    ready = {item["type"]: item for item in status["conditions"]}["Ready"]
    assert ready["reason"] == "StartDeadlineExceeded"
    assert "had generated no token 15s after" in ready["message"] and said in ready["message"]
    assert status["readyReplicas"] == 0


@pytest.mark.parametrize("engine", ["llamacpp"])
async def test_who_generates_nothing_takes_nobodys_place(rig: Rig, engine: str) -> None:
    """A roll-out keeps the old replica until the new one generated a token."""
    namespace = await rig.namespace()
    await rig.apply(namespace, "a", token("tgi", scaling={"minReplicas": 1}))
    await rig.state(namespace, "a", "Awake", timeout=60)
    old = await pod_of(rig, namespace)
    spec = token(engine, scaling={"minReplicas": 1}, start={"deadline": "15s"}, hold={"coldTimeout": "1m"})
    await rig.apply(namespace, "a", spec)

    def stuck(obj: Object | None) -> bool:
        message = conditions(obj).get("Ready", {}).get("message", "")
        return "serving an older spec" in message and "had generated no token" in message

    found = await rig.until(INFERENCE_ENDPOINTS, namespace, "a", stuck, timeout=60)
    assert found is not None and found["status"]["readyReplicas"] == 1
    kept = await rig.client.get(PODS, old["metadata"]["name"], namespace)
    assert "deletionTimestamp" not in kept["metadata"] and conditions(kept)["Ready"]["status"] == "True"
