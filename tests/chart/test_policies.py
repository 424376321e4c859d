"""The admission policies on a real API server: what they refuse, what they let pass, and in which words."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from dataclasses import replace
from typing import Any

import pytest

from tests.chart.conftest import Place
from tests.chart.rendering import Object
from tests.reconcile.forbidden import ALLOWED, REFUSED
from zerotide.api.names import CONDITION_TOKEN, FINALIZER_LEDGER
from zerotide.kube import Client, Forbidden, Invalid
from zerotide.kube.resources import INFERENCE_ENDPOINTS, PODS


async def create(place: Place, spec: Object) -> None:
    """Create an endpoint without keeping it."""
    path = INFERENCE_ENDPOINTS.path(place.namespace)
    await place.client.request("POST", path, body=place.endpoint(**spec), params={"dryRun": "All"})


async def refusal(attempt: Awaitable[object]) -> str:
    """Return the words with which an attempt is refused, empty when it is not."""
    try:
        await attempt
    except (Invalid, Forbidden) as error:
        return str(error)
    return ""


async def test_endpoints(place: Place) -> None:
    """Every switch of the pod policy refuses with its own words; what asks for nothing special passes."""
    for name, bad in REFUSED.items():
        said = await refusal(create(place, bad.spec))
        assert bad.admission in said, f"{name}: {said!r}"
    for name, spec in ALLOWED.items():
        assert await refusal(create(place, spec)) == "", name


async def test_a_refused_spec_can_still_be_labelled_and_deleted(place: Place) -> None:
    """A policy that became narrower must not lock up what it admitted before."""
    await place.client.create(INFERENCE_ENDPOINTS, place.endpoint())
    # The policy is asked about changes of the spec alone, so only those are checked.
    labels = {"metadata": {"labels": {"team": "ml"}}}
    await place.client.patch(INFERENCE_ENDPOINTS, "subject", place.namespace, labels)
    change = {"spec": {"access": {"auth": "Open"}}}
    with pytest.raises(Invalid, match="Open is not allowed"):
        await place.client.patch(INFERENCE_ENDPOINTS, "subject", place.namespace, change)
    await place.client.delete(INFERENCE_ENDPOINTS, "subject", place.namespace)


@pytest.fixture
async def exporter(place: Place) -> AsyncIterator[Client]:
    """Open a client with the exporter's account."""
    token = await place.client.token("zerotide-exporter", place.namespace)
    async with Client(replace(place.client.credentials, token=lambda: token, tls=_anonymous())) as client:
        probe = await _pod(place, [])
        where = PODS.path(place.namespace, probe["metadata"]["name"])
        label: Object = {"metadata": {"labels": {"a": "b"}}}
        kind, dry = "application/merge-patch+json", {"dryRun": "All"}
        async with asyncio.timeout(60):
            while not await refusal(client.request("PATCH", where, body=label, params=dry, content_type=kind)):
                await asyncio.sleep(0.2)
        yield client


def _anonymous() -> Any:
    """Return a TLS context without the administrator's client certificate."""
    import ssl

    context = ssl.create_default_context()
    # The server's name is checked elsewhere; here only who the client is matters.
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


async def _pod(
    place: Place, finalizers: list[str], labels: dict[str, str] | None = None, gates: list[Object] | None = None
) -> Object:
    spec = {
        "readinessGates": gates or [],
        "containers": [{"name": "model", "image": "localhost/zerotide/pause:1"}],
        "nodeSelector": {"no": "where"},
        "automountServiceAccountToken": False,
    }
    metadata = {"generateName": "p-", "namespace": place.namespace, "finalizers": finalizers, "labels": labels or {}}
    async with asyncio.timeout(30):
        while True:
            try:
                body = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}
                return await place.client.create(PODS, body)
            except Forbidden:  # the namespace's default account is made in a moment
                await asyncio.sleep(0.2)


async def test_the_exporter_removes_its_finalizer_and_nothing_else(place: Place, exporter: Client) -> None:
    """RBAC lets it patch pods; admission lets it do the one thing that it is for."""
    made = await _pod(place, ["example.com/other", FINALIZER_LEDGER])
    name = made["metadata"]["name"]

    async def patch(*operations: Object) -> str:
        return await refusal(exporter.patch(PODS, name, place.namespace, list(operations), kind="json"))

    ours = {"op": "remove", "path": "/metadata/finalizers/1"}
    theirs = {"op": "remove", "path": "/metadata/finalizers/0"}
    only = "may only remove the finalizer metering.zerotide.dev/ledger"
    nothing = "may remove its finalizer and change nothing else"
    assert only in await patch(theirs)
    assert only in await patch(ours, theirs)
    assert only in await patch({"op": "add", "path": "/metadata/finalizers/-", "value": "example.com/new"})
    assert only in await patch({"op": "add", "path": "/metadata/labels", "value": {"a": "b"}})
    assert nothing in await patch(ours, {"op": "add", "path": "/metadata/labels", "value": {"a": "b"}})
    assert nothing in await patch(ours, {"op": "add", "path": "/metadata/annotations", "value": {"a": "b"}})
    image = {"op": "replace", "path": "/spec/containers/0/image", "value": "evil/x"}
    assert nothing in await patch(ours, image)
    assert await patch({"op": "test", "path": "/metadata/finalizers/1", "value": FINALIZER_LEDGER}, ours) == ""
    left = await place.client.get(PODS, name, place.namespace)
    assert left["metadata"]["finalizers"] == ["example.com/other"]
    release = [{"op": "remove", "path": "/metadata/finalizers"}]
    await place.client.patch(PODS, name, place.namespace, release, kind="json")


async def test_a_pod_that_is_deleted_goes_with_the_last_finalizer(place: Place, exporter: Client) -> None:
    """The patch that ends a pod's life is the one that the policy must let pass."""
    made = await _pod(place, [FINALIZER_LEDGER])
    name = made["metadata"]["name"]
    await place.client.delete(PODS, name, place.namespace, grace_seconds=0)
    remove = [{"op": "remove", "path": "/metadata/finalizers/0"}]
    await exporter.patch(PODS, name, place.namespace, remove, kind="json")
    remaining = (await place.client.list(PODS, place.namespace)).items
    assert name not in [item["metadata"]["name"] for item in remaining]


@pytest.fixture
async def operator(place: Place) -> AsyncIterator[Client]:
    """Open a client with the operator's account, once the policy about it holds."""
    token = await place.client.token("zerotide-operator", place.namespace)
    async with Client(replace(place.client.credentials, token=lambda: token, tls=_anonymous())) as client:
        probe = await _pod(place, [])
        where = f"{PODS.path(place.namespace, probe['metadata']['name'])}/status"
        kind, dry = "application/merge-patch+json", {"dryRun": "All"}
        async with asyncio.timeout(60):
            while not await refusal(client.request("PATCH", where, body=PHASE, params=dry, content_type=kind)):
                await asyncio.sleep(0.2)
        yield client


PHASE: Object = {"status": {"phase": "Running"}}


async def test_the_operator_tells_of_a_token_and_nothing_else(place: Place, operator: Client) -> None:
    """RBAC lets it patch the status of pods; admission lets it write one condition, of pods that wait for it."""
    gates = [{"conditionType": CONDITION_TOKEN}]
    labels = {"zerotide.dev/endpoint": "subject"}
    made = await _pod(place, [], labels=labels, gates=gates)
    name, uid = made["metadata"]["name"], made["metadata"]["uid"]

    async def patch(status: Object, name: str = name, **metadata: Any) -> str:
        body = {"metadata": {"uid": uid, **metadata}, "status": status}
        return await refusal(operator.patch(PODS, name, place.namespace, body, kind="strategic", subresource="status"))

    token = {"type": CONDITION_TOKEN, "status": "True", "reason": "TokenGenerated", "message": "it did"}
    nothing = "may write its condition of a pod's status and change nothing else"
    assert "may only write the condition" in await patch({"conditions": [{"type": "Ready", "status": "True"}]})
    assert "may only write the condition" in await patch({"conditions": [token, {"type": "Other", "status": "True"}]})
    assert nothing in await patch({"conditions": [token], "phase": "Running"})
    assert nothing in await patch({"conditions": [token], "podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.1"}]})
    assert nothing in await patch({"conditions": [token]}, labels={"a": "b"})
    assert nothing in await patch({"conditions": [token]}, annotations={"a": "b"})
    assert nothing in await patch({"conditions": [token]}, finalizers=["example.com/x"])
    for other in (await _pod(place, [], labels=labels), await _pod(place, [], gates=gates)):
        found = other["metadata"]
        refused = await patch({"conditions": [token]}, found["name"], uid=found["uid"])
        assert "of an endpoint's pods that have the gate" in refused
    assert await patch({"conditions": [token]}) == ""
    assert await patch({"conditions": [{**token, "status": "False", "reason": "NoToken"}]}) == ""
    left = await place.client.get(PODS, name, place.namespace)
    (told,) = (each for each in left["status"]["conditions"] if each["type"] == CONDITION_TOKEN)
    assert (told["status"], told["reason"]) == ("False", "NoToken")


async def test_others_may_patch_pods(place: Place) -> None:
    """The exporter's policy concerns the exporter alone."""
    made = await _pod(place, [])
    patch = {"metadata": {"labels": {"a": "b"}}}
    changed = await place.client.patch(PODS, made["metadata"]["name"], place.namespace, patch)
    assert changed["metadata"]["labels"]["a"] == "b"
