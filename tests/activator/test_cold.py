"""Requests for an endpoint that sleeps: held, answered, or turned away with a reason."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from tests.activator.holding import held
from tests.activator.replica import Replica
from tests.activator.stack import Stack, gather, until
from zerotide.activator.council.membership import Member
from zerotide.api.scalars import format_time
from zerotide.kube import Change


def accepting(reason: str, message: str = "told", generation: int = 1) -> dict[str, object]:
    """Return a status that takes no requests."""
    condition = {
        "type": "Accepting",
        "status": "False",
        "reason": reason,
        "message": message,
        "lastTransitionTime": "2026-11-22T10:00:00Z",
        "observedGeneration": generation,
    }
    return {"conditions": [condition], "desiredReplicas": 1}


async def test_hold_timeout(stack: Stack) -> None:
    """The hold ends with 503 when cold.coldTimeout is over, and says when a retry can succeed."""
    endpoint = stack.endpoint(hold={"coldTimeout": "1s"})
    endpoint.starts.add(42_000_000)
    stack.key()
    answer = await stack.post()
    assert (answer.status, answer.code) == (503, "hold_timeout")
    assert 36 <= int(answer.headers["retry-after"]) <= 46
    assert answer.headers["x-zerotide-ready-in"] in ("41", "42")
    assert answer.json["error"]["code"] == "hold_timeout"
    assert answer.json["error"]["type"] == "service_unavailable"


async def test_what_the_client_says_of_its_patience(stack: Stack) -> None:
    """wait=0 is answered at once, wait=1 within a second; both wake."""
    stack.endpoint()
    stack.key()
    loop = asyncio.get_running_loop()
    began = loop.time()
    answer = await stack.post(prefer="respond-async, wait=0")
    assert (answer.status, answer.code) == (503, "endpoint_cold")
    assert loop.time() - began < 0.5
    await until(lambda: stack.api.applied)
    for header in ({"prefer": "wait=1"}, {"x_scale_up_timeout": "1"}, {"x_request_timeout": "1.0s"}):
        began = loop.time()
        assert (await stack.post(**header)).code == "hold_timeout"
        assert 0.85 < loop.time() - began < 1.5
    assert (await stack.post(x_request_timeout="soon")).code == "invalid_request"


async def test_reject_while_cold(stack: Stack) -> None:
    """whileCold: Reject holds nothing but wakes; its 503 comes no sooner than a second after the request."""
    stack.endpoint(hold={"whileCold": "Reject"})
    stack.key()
    began = asyncio.get_running_loop().time()
    assert (await stack.post()).code == "endpoint_cold"
    assert asyncio.get_running_loop().time() - began >= 0.99
    await until(lambda: stack.api.applied)


@pytest.mark.parametrize(
    ("reason", "status", "code"),
    [
        ("ImagePullFailed", 500, "image_pull_failed"),
        ("CrashLooping", 500, "crash_looping"),
        ("NeverSchedulable", 500, "never_schedulable"),
        ("OutOfMemory", 500, "out_of_memory"),
        ("Unschedulable", 503, "unschedulable"),
        ("StartBackoff", 500, "start_backoff"),
        ("VolumeFailed", 500, "pod_refused"),
    ],
)
async def test_a_hopeless_start_answers_everyone(stack: Stack, reason: str, status: int, code: str) -> None:
    """Those who wait and those who come learn the reason; nothing is woken for the latter."""
    stack.endpoint()
    stack.key()
    tasks = await held(stack, 3)
    stack.endpoint(status=accepting(reason, "no such image: x/y:1"))
    for answer in [*await gather(*tasks), await stack.post()]:
        assert (answer.status, answer.code) == (status, code)
        assert "no such image: x/y:1" in answer.json["error"]["message"]
        assert answer.headers["x-should-retry"] == ("true" if status == 503 else "false")
        assert ("retry-after" in answer.headers) is (status == 503)
    assert len(stack.api.applied) <= 1


async def test_a_backoff_that_ends_soon_may_be_retried(stack: Stack) -> None:
    """When the next start is due within a minute, clients may come back then."""
    stack.endpoint()
    stack.key()
    due = (stack.service.clock.now_us() + 30_000_000) // 1_000_000
    failed = {"count": 3, "since": "2026-11-22T10:00:00Z", "reason": "CrashLooping"}
    retry = {"failedStarts": {**failed, "retryTime": format_time(due * 1_000_000)}}
    stack.endpoint(status={**accepting("StartBackoff"), **retry})
    answer = await stack.post()
    assert (answer.status, answer.code) == (503, "start_backoff")
    assert 26 <= int(answer.headers["retry-after"]) <= 33


async def test_a_condition_of_an_older_spec_says_nothing(stack: Stack, replica: Replica) -> None:
    """A fixed spec is tried at once, before the operator has looked at it."""
    stack.endpoint(status=accepting("ImagePullFailed", generation=0))
    stack.key()
    (task,) = await held(stack, 1)
    stack.pod(replica.port)
    assert (await task).status == 200


async def test_suspend_answers_and_never_wakes(stack: Stack) -> None:
    """The spec is enough: no status is waited for."""
    stack.endpoint()
    stack.key()
    tasks = await held(stack, 2)
    await until(lambda: stack.api.applied)
    stack.endpoint(suspend=True)
    answers = [*await gather(*tasks), await stack.post()]
    assert {(answer.status, answer.code) for answer in answers} == {(500, "suspended")}
    assert len(stack.api.applied) == 1


async def test_deletion_answers_the_waiters(stack: Stack) -> None:
    """An endpoint that is deleted during its start does not leave anyone waiting."""
    stack.endpoint()
    stack.key()
    tasks = await held(stack, 3)
    stack.delete_endpoint()
    assert {(answer.status, answer.code) for answer in await gather(*tasks)} == {(404, "endpoint_not_found")}
    assert (await stack.post()).code == "model_not_found"


async def test_pods_may_come_before_their_endpoint(stack: Stack, replica: Replica) -> None:
    """Objects come in any order of events."""
    stack.pod(replica.port)
    stack.key()
    stack.endpoint(status={"desiredReplicas": 1})
    assert (await stack.post()).status == 200
    stack.delete_endpoint()
    stack.endpoint()
    assert (await stack.post()).status == 200


async def test_nothing_hangs_in_any_order_of_events(stack: Stack, replica: Replica) -> None:
    """Endpoint, key, a pod before and after it has its address, another activator: all orders end in an answer."""

    def happen(event: str, name: str, namespace: str) -> None:
        if event == "endpoint":
            stack.endpoint(name, namespace, {"desiredReplicas": 1})
        elif event == "key":
            stack.key("k", namespace)
        elif event == "peer":
            stack.registry.set_members([Member("act-0"), Member("act-1")])
        elif event == "address":
            stack.pod(replica.port, name, namespace)
        else:
            metadata = {"name": "m-1", "namespace": namespace, "uid": "pod-m-1"}
            labelled = {**metadata, "labels": {"zerotide.dev/endpoint": name}}
            stack.registry.pod_changed(Change("set", {"metadata": labelled, "status": {"phase": "Pending"}}))

    for number, order in enumerate(itertools.permutations(("endpoint", "key", "pod", "address", "peer"))):
        if order.index("pod") > order.index("address"):
            continue  # the versions of one object do come in order
        name, namespace = f"m{number}", f"n{number}"
        stack.registry.set_members([Member("act-0")])
        for event in order:
            happen(event, name, namespace)
        async with asyncio.timeout(3):
            answer = await stack.post(f"/endpoints/{namespace}/{name}/v1/chat/completions", {"model": name})
        assert answer.status == 200, order


async def test_a_pod_that_leaves_gets_nothing_new(stack: Stack, replica: Replica) -> None:
    """A request that comes while the last pod terminates is held, and served by the next one."""
    endpoint = await stack.awake(replica)
    stack.pod(replica.port, deletionTimestamp="2026-11-22T10:00:00Z")
    assert endpoint.gate.cold
    (task,) = await held(stack, 1)
    async with Replica() as other:
        stack.pod(other.port, name="m-2")
        assert (await task).status == 200
        assert len(other.posts) == 1
    assert replica.posts == []


async def test_a_pod_is_used_from_its_first_yes_on(stack: Stack, replica: Replica) -> None:
    """It is asked from its address on until it says yes, and kubelet's opinion is not waited for."""
    replica.ready = False
    stack.endpoint()
    stack.key()
    (task,) = await held(stack, 1)
    stack.pod(replica.port)
    await until(lambda: len(replica.received) > 3)
    assert not task.done()
    replica.ready = True
    assert (await task).status == 200
    assert replica.connections == 1
