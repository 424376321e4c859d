"""Requests for an endpoint that sleeps: held, woken, answered, or turned away with a reason."""

from __future__ import annotations

import asyncio
import itertools
import json
from typing import Any

import pytest

from tests.activator.replica import TEXT, Replica
from tests.activator.stack import Answer, Stack, gather, until
from zerotide.activator.admission.naming import Name
from zerotide.activator.council.membership import Member
from zerotide.activator.endpoints import waker
from zerotide.api.demand import Wake
from zerotide.api.scalars import format_time
from zerotide.kube import Change, ConnectionFailed


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


async def held(stack: Stack, number: int, **options: str) -> list[asyncio.Task[Answer]]:
    """Send requests and return once they are held."""
    endpoint = stack.registry.endpoints[next(iter(stack.registry.endpoints))]
    before = endpoint.gate.held
    tasks = [asyncio.create_task(stack.post(**options)) for _ in range(number)]
    await until(lambda: endpoint.gate.held == before + number)
    return tasks


async def test_a_burst_is_held_wakes_once_and_is_answered(stack: Stack, replica: Replica) -> None:
    """Twenty requests, one wake request, twenty answers; each knows that it was a cold start."""
    stack.endpoint()
    stack.key()
    tasks = await held(stack, 20)
    await until(lambda: stack.api.applied)
    stack.pod(replica.port)
    answers = await gather(*tasks)
    assert {answer.status for answer in answers} == {200}
    assert {answer.headers["x-zerotide-cold-start"] for answer in answers} == {"true"}
    assert len(stack.api.applied) == 1
    request = stack.api.applied[0]
    assert request["status"]["wakeRequest"]["by"] == "act-0"
    assert request["metadata"]["uid"].startswith("uid-demo-m")
    demand = stack.tracker.demand("demo/m")
    assert demand is not None
    assert (demand.arrivals, demand.held, demand.in_flight) == (20, 0, 0)


async def test_two_activators_write_one_wake_request(stack: Stack) -> None:
    """Both see the burst at the same time; the one that comes second finds the wish and writes nothing."""
    async with Stack(name="act-1", api=stack.api) as other:
        obj = stack.endpoint()
        other.registry.set_profile(obj.profile)
        other.keys["k"] = stack.key()
        other.registry.keyring = stack.registry.keyring
        both = [each.registry.endpoints[next(iter(each.registry.endpoints))] for each in (stack, other)]
        tasks = [asyncio.create_task(each.post()) for each in (stack, other) for _ in range(5)]
        await until(lambda: [endpoint.gate.held for endpoint in both] == [5, 5])
        await until(lambda: not stack.service.waker._asking and not other.service.waker._asking)
        assert len(stack.api.applied) == 1
        assert {endpoint.profile.wake_handled for endpoint in both} == {False}
        for task in tasks:
            task.cancel()


async def test_it_asks_again_when_it_fell_asleep_meanwhile(stack: Stack) -> None:
    """A handled wish is history: an endpoint that sleeps while somebody waits is asked anew."""
    stack.endpoint()
    stack.key()
    (task,) = await held(stack, 1)
    first = (await until(lambda: stack.api.applied))[0]["status"]["wakeRequest"]
    stack.endpoint(status={"wakeRequest": first, "handledWakeRequest": first["id"], "desiredReplicas": 1})
    stack.endpoint(status={"wakeRequest": first, "handledWakeRequest": first["id"], "desiredReplicas": 0})
    await until(lambda: len(stack.api.applied) == 2)
    assert stack.api.applied[1]["status"]["wakeRequest"]["id"] != first["id"]
    task.cancel()


async def test_it_asks_again_in_the_moment_in_which_a_wish_is_over(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An endpoint that falls asleep between the end of a wish's task and the news of it is not overlooked."""
    stack.endpoint()
    stack.key()
    loop, apply = asyncio.get_running_loop(), stack.api.apply

    def sleeps_again() -> None:
        first = stack.api.applied[0]["status"]["wakeRequest"]
        handled = {"wakeRequest": first, "handledWakeRequest": first["id"]}
        stack.endpoint(status={**handled, "desiredReplicas": 1})
        stack.endpoint(status={**handled, "desiredReplicas": 0})

    async def and_then(*arguments: Any, **options: Any) -> Any:
        stored = await apply(*arguments, **options)
        if len(stack.api.applied) == 1:
            loop.call_soon(sleeps_again)
        return stored

    monkeypatch.setattr(stack.api, "apply", and_then)
    (task,) = await held(stack, 1)
    await until(lambda: len(stack.api.applied) == 2)
    first, second = (applied["status"]["wakeRequest"]["id"] for applied in stack.api.applied)
    assert second != first
    task.cancel()


async def test_a_client_that_leaves_takes_nothing_back(stack: Stack) -> None:
    """Its hold is withdrawn, and the wake goes on although the API server was away when it left."""
    stack.endpoint()
    stack.key()
    stack.api.down = ConnectionFailed("away")
    (task,) = await held(stack, 1)
    task.cancel()
    endpoint = stack.registry.endpoints[next(iter(stack.registry.endpoints))]
    await until(lambda: not endpoint.gate.held)
    assert stack.api.applied == []
    stack.api.down = None
    await until(lambda: stack.api.applied)


class Follower:
    """An operator that follows the demand."""

    def changed(self, endpoint: str, urgent: bool) -> None:
        """Hear of a change."""

    def woke(self, wake: Wake) -> None:
        """Hear of a wake."""


async def test_who_follows_the_demand_has_a_head_start(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    """The wish comes a moment later, once, whether the client waits for it or the endpoint woke meanwhile."""
    monkeypatch.setattr(waker, "HEAD_START", 0.1)
    stack.endpoint()
    stack.key()
    stack.tracker.follow(Follower())
    request = asyncio.create_task(stack.post())
    await until(lambda: stack.registry.endpoints[Name("demo", "m")].gate.held)
    assert stack.api.applied == []
    request.cancel()
    stack.endpoint(status={"desiredReplicas": 1, "state": "Waking"})
    await until(lambda: stack.api.applied)
    await asyncio.sleep(0.2)
    assert len(stack.api.applied) == 1


async def test_a_wish_is_written_at_once_when_nobody_follows_any_more(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An operator that dies before it acted leaves the wake to its successor."""
    monkeypatch.setattr(waker, "HEAD_START", 600.0)
    stack.endpoint()
    stack.key()
    operator = Follower()
    stack.tracker.follow(operator)
    request = asyncio.create_task(stack.post())
    await until(lambda: stack.registry.endpoints[Name("demo", "m")].gate.held)
    assert stack.api.applied == []
    stack.tracker.leave(operator)
    await until(lambda: stack.api.applied)
    request.cancel()


async def test_the_bound_of_held_requests(stack: Stack, replica: Replica) -> None:
    """Ten are held and answered, the eleventh is told at once to come back."""
    stack.endpoint(hold={"maxRequests": 10})
    stack.key()
    tasks = await held(stack, 10)
    refused = await stack.post()
    assert (refused.status, refused.code) == (429, "queue_full")
    assert refused.headers["retry-after"] == "10"
    assert refused.headers["x-should-retry"] == "true"
    assert "x-zerotide-ready-in" not in refused.headers
    stack.pod(replica.port)
    assert {answer.status for answer in await gather(*tasks)} == {200}


async def test_the_bound_is_shared(stack: Stack) -> None:
    """Of ten, one of three activators holds three or four; together ten."""
    endpoint = stack.endpoint(hold={"maxRequests": 10})
    stack.key()
    stack.registry.set_members([Member(name) for name in ("act-0", "act-1", "act-2")])
    assert endpoint.gate.bounds.max_requests == 4
    tasks = await held(stack, 4)
    assert (await stack.post()).code == "queue_full"
    for task in tasks:
        task.cancel()


async def test_the_bound_of_held_bytes(stack: Stack) -> None:
    """Bodies count as they are."""
    stack.endpoint(hold={"maxBytes": "64Ki"}, request={"maxBodyBytes": "60Ki"})
    stack.key()
    large = json.dumps({"model": "m", "x": "x" * 50_000}).encode()
    task = asyncio.create_task(stack.post(body=large))
    endpoint = stack.registry.endpoints[next(iter(stack.registry.endpoints))]
    await until(lambda: endpoint.gate.held_bytes == len(large))
    assert (await stack.post(body=large)).code == "queue_full"
    assert (await stack.post(body=json.dumps({"model": "m", "x": "x" * 70_000}).encode())).code == "request_too_large"
    task.cancel()


@pytest.mark.parametrize("limit", [1, 3])
async def test_release_is_paced(stack: Stack, replica: Replica, limit: int) -> None:
    """No replica ever has more requests than its limit, and they go in the order in which they came."""
    stack.endpoint(scaling={"concurrency": {"target": 1, "limit": limit}})
    stack.key()
    tasks = []
    for number in range(12):
        tasks += await held(stack, 1, x_request_id=f"n{number:02d}")
    replica.hold = asyncio.Event()
    stack.pod(replica.port)
    await until(lambda: replica.in_flight == limit)
    replica.hold.set()
    await gather(*tasks)
    assert replica.most_in_flight == limit
    order = [post.get("x-request-id") for post in replica.posts]
    assert set(order[:limit]) == {f"n{number:02d}" for number in range(limit)}
    assert (order if limit == 1 else sorted(order)) == [f"n{number:02d}" for number in range(12)]


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


async def test_a_wake_is_told_with_its_stamps(stack: Stack, replica: Replica) -> None:
    """After the first byte of its first request, once, with what the runtime tells of its start."""
    told: list[Wake] = []

    class Listener:
        def changed(self, endpoint: str, urgent: bool) -> None:
            """Nothing to do."""

        def woke(self, wake: Wake) -> None:
            told.append(wake)

    stack.tracker.follow(Listener())
    replica.startup = {"stages": [{"name": "import", "ms": 120.5}, {"name": "load", "ms": 80}]}
    stack.endpoint()
    stack.key()
    replica.hold = asyncio.Event()
    tasks = await held(stack, 3)
    wake_id = (await until(lambda: stack.api.applied))[0]["status"]["wakeRequest"]["id"]
    stack.pod(replica.port)
    await until(lambda: replica.in_flight == 3)
    # The first answer takes its time, and the endpoint's status moves on meanwhile: the wake is still told.
    stack.endpoint(status={**stack.api.applied[0]["status"], "state": "Awake", "desiredReplicas": 1})
    replica.hold.set()
    await gather(*tasks)
    await stack.post()
    (wake,) = await until(lambda: told)
    stamps = wake.stamps
    assert (wake.id, wake.endpoint, wake.runtime) == (wake_id, "demo/m", {"import": 120.5, "load": 80})
    assert stamps.demand_us <= stamps.address_us <= stamps.connect_us <= stamps.ready_us <= stamps.first_byte_us
    assert {intent.wake_id for intent in stack.records()[0] if intent.cold} == {wake_id}


async def test_saturation_has_a_short_budget(stack: Stack, replica: Replica) -> None:
    """While every replica is at its limit, requests wait busyTimeout; the demand says so."""
    replica.hold = asyncio.Event()
    endpoint = await stack.awake(
        replica, scaling={"concurrency": {"target": 1, "limit": 1}}, hold={"busyTimeout": "1s"}
    )
    first = asyncio.create_task(stack.post())
    await until(lambda: replica.in_flight == 1)
    (second,) = await held(stack, 1)
    demand = stack.tracker.demand("demo/m")
    assert demand is not None
    assert (demand.held, demand.in_flight) == (1, 1)
    answer = await second
    assert (answer.status, answer.code) == (503, "hold_timeout")
    assert answer.headers["x-zerotide-error"] == "hold_timeout"
    replica.hold.set()
    assert (await first).json["choices"][0]["message"]["content"] == TEXT
    assert endpoint.gate.held == 0


async def test_consumer_limits(stack: Stack) -> None:
    """Held and in flight together are bounded per consumer, and per key."""
    stack.endpoint(access={"maxInFlightPerConsumer": 2})
    stack.key()
    stack.key("single", consumer="team-b", maxInFlight=1)
    tasks = await held(stack, 2)
    refused = await stack.post()
    assert (refused.status, refused.code, refused.headers["retry-after"]) == (429, "consumer_limit", "1")
    tasks += await held(stack, 1, key="single")
    assert (await stack.post(key="single")).code == "consumer_limit"
    for task in tasks:
        task.cancel()
    endpoint = stack.registry.endpoints[next(iter(stack.registry.endpoints))]
    await until(lambda: not endpoint.gate.held)
    await held(stack, 2)
