"""On a real cluster: what is wrong is told by conditions and Events, once, whoever leads, until it is mended."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.controller.rig import Object, Rig, trivial
from zerotide.kube import Client
from zerotide.kube.resources import DEPLOYMENTS, EVENTS, INFERENCE_ENDPOINTS

WRONG = trivial(runtime={"image": "zerotide/trivial:no-such-tag"}, start={"maxFailures": 100})


async def told(client: Client, namespace: str, name: str, reason: str) -> list[Object]:
    """Return the Events of a reason about an endpoint."""
    selector = f"involvedObject.kind=InferenceEndpoint,involvedObject.name={name},reason={reason}"
    return (await client.list(EVENTS, namespace, field_selector=selector)).items


async def event(client: Client, namespace: str, name: str, reason: str) -> Object:
    """Wait for the first Event of a reason about an endpoint."""
    async with asyncio.timeout(15):
        while not (found := await told(client, namespace, name, reason)):
            await asyncio.sleep(0.1)
    return found[0]


def of(obj: Object, type_: str) -> Object:
    """Return one condition of an endpoint."""
    (found,) = (item for item in obj["status"]["conditions"] if item["type"] == type_)
    return dict(found)


def is_(type_: str, status: str, reason: str) -> Any:
    """Return a test of one condition of an endpoint."""

    def holds(obj: Object | None) -> bool:
        conditions = ((obj or {}).get("status") or {}).get("conditions") or []
        wanted = (type_, status, reason)
        return any((item["type"], item["status"], item["reason"]) == wanted for item in conditions)

    return holds


async def test_an_event_that_a_process_did_not_get_to_tell_is_told_by_the_next(rig: Rig) -> None:
    """A wrong image: the status is written, the leader dies; its successors tell it exactly once between them."""
    namespace = await rig.namespace()
    await rig.apply(namespace, "a", WRONG)
    await rig.state(namespace, "a", "Asleep")
    await rig.wake(namespace, "a")
    await rig.state(namespace, "a", "Failed", timeout=90)
    first = await event(rig.client, namespace, "a", "ImagePullFailed")
    assert first["type"] == "Warning" and "no-such-tag" in first["message"]
    await asyncio.to_thread(rig.operator.kill)
    # As if it had died before it told.
    await rig.client.delete(EVENTS, first["metadata"]["name"], namespace)
    rig.processes.start_operator()
    second = await event(rig.client, namespace, "a", "ImagePullFailed")
    assert second["metadata"]["name"] == first["metadata"]["name"]
    await rig.restart_operator()
    await asyncio.to_thread(rig.processes.wait_ready, rig.operator)
    await asyncio.sleep(3)
    third = await told(rig.client, namespace, "a", "ImagePullFailed")
    assert [item["metadata"]["resourceVersion"] for item in third] == [second["metadata"]["resourceVersion"]]


async def test_a_roll_out_with_a_wrong_image_is_told_while_the_old_replica_serves(rig: Rig) -> None:
    """The endpoint stays Ready; the reason is in its message and in an Event."""
    namespace = await rig.namespace()
    await rig.apply(namespace, "a", trivial(scaling={"pinnedReplicas": 1}))
    await rig.state(namespace, "a", "Awake", timeout=60)
    await rig.apply(namespace, "a", {**WRONG, "scaling": {"pinnedReplicas": 1}})
    warning = await event(rig.client, namespace, "a", "ImagePullFailed")
    assert warning["message"].startswith("serving an older spec, because the present one cannot run: the image cannot")
    status = await rig.state(namespace, "a", "Awake")
    assert (status["conditions"][0]["type"], status["conditions"][0]["status"]) == ("Ready", "True")
    assert "no-such-tag" in status["conditions"][0]["message"]


async def test_a_model_name_that_is_taken_is_told_until_it_is_free(rig: Rig) -> None:
    """The younger endpoint is not Ready, goes on in every other way, and heals when the older one goes."""
    namespace = await rig.namespace()
    model = {"uri": "image:///m", "name": "chat"}
    await rig.apply(namespace, "older", trivial(model=model))
    await rig.state(namespace, "older", "Asleep")
    await asyncio.sleep(1.1)  # creation times are whole seconds
    await rig.apply(namespace, "younger", trivial(model={"uri": "image:///m", "aliases": ["chat"]}))
    taken = is_("Ready", "False", "ModelNameConflict")
    found = await rig.until(INFERENCE_ENDPOINTS, namespace, "younger", taken)
    assert found is not None and is_("Accepting", "True", "NeverServed")(found)
    warning = await event(rig.client, namespace, "younger", "ModelNameConflict")
    assert warning["type"] == "Warning" and "the older endpoint older keeps the model name 'chat'" in warning["message"]
    await rig.wake(namespace, "younger")
    await rig.state(namespace, "younger", "Awake", timeout=60)
    older = await rig.client.get(INFERENCE_ENDPOINTS, "older", namespace)
    assert is_("Ready", "True", "NeverServed")(older), "the older one keeps it"
    await rig.client.delete(INFERENCE_ENDPOINTS, "older", namespace)
    healed = lambda obj: is_("Ready", "True", "Serving")(obj) or is_("Ready", "True", "ScaledToZero")(obj)  # noqa: E731
    assert await rig.until(INFERENCE_ENDPOINTS, namespace, "younger", healed, 10) is not None
    assert len(await told(rig.client, namespace, "younger", "ModelNameConflict")) == 1


async def test_somebody_elses_replicas_are_put_back_and_told_once(rig: Rig) -> None:
    """By the scale subresource as kubectl does, again and again, and by server-side apply."""
    namespace = await rig.namespace()
    await rig.apply(namespace, "a", trivial())
    await rig.state(namespace, "a", "Asleep")
    for count in (2, 3, 4):
        body = {"spec": {"replicas": count}}
        await rig.client.patch(DEPLOYMENTS, "a", namespace, body, subresource="scale", manager="an-autoscaler")
        await rig.replicas(namespace, "a", 0)
    external = is_("Reconciling", "False", "ExternalWriter")
    found = await rig.until(INFERENCE_ENDPOINTS, namespace, "a", external)
    # The reason is Serving for as long as what the other one started still ends.
    assert found is not None and of(found, "Ready")["status"] == "True"
    warning = await event(rig.client, namespace, "a", "ExternalWriter")
    assert warning["type"] == "Warning" and warning["message"].startswith("an-autoscaler by its scale sets")
    await rig.client.patch(
        DEPLOYMENTS, "a", namespace, {"spec": {"replicas": 5}}, subresource="scale", manager="an-autoscaler"
    )
    await rig.replicas(namespace, "a", 0)
    await asyncio.sleep(1)
    after = await rig.client.get(INFERENCE_ENDPOINTS, "a", namespace)
    assert of(after, "Reconciling") == of(found, "Reconciling"), "what is told already is not told again"
    assert len(await told(rig.client, namespace, "a", "ExternalWriter")) == 1
    metadata = {"name": "a", "namespace": namespace}
    await rig.client.apply(DEPLOYMENTS, {"metadata": metadata, "spec": {"replicas": 2}}, "a-person")
    await rig.replicas(namespace, "a", 0)
    async with asyncio.timeout(10):
        while len(await told(rig.client, namespace, "a", "ExternalWriter")) < 2:
            await asyncio.sleep(0.1)
    assert len(found["status"].get("decisions", ())) == 0, "nobody but the operator decides"
