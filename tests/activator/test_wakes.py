"""Wake requests: one for each burst, none too many, and none lost."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import pytest

from tests.activator.holding import held
from tests.activator.replica import Replica
from tests.activator.stack import Stack, gather, until
from zerotide.activator.admission.naming import Name
from zerotide.activator.endpoints import waker
from zerotide.activator.traffic.books import weights_of
from zerotide.api.demand import Wake, Weights
from zerotide.kube import ConnectionFailed


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


async def test_a_wish_that_meets_with_a_conflict_for_ever(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    """An object that cannot be read leaves nothing new to build on: it is looked at again, ever more rarely."""
    monkeypatch.setattr(waker, "HEAD_START", 0.0)
    stack.endpoint()
    stack.key()
    stored = stack.api.objects[Name("demo", "m")]
    stored["metadata"]["resourceVersion"] = "newer"
    readable, stored["spec"] = stored["spec"], "none that can be read"
    looked: list[float] = []
    real, now = stack.api.get, asyncio.get_running_loop().time

    async def get(*asked: Any) -> Any:
        looked.append(now())
        return await real(*asked)

    monkeypatch.setattr(stack.api, "get", get)
    (task,) = await held(stack, 1)
    await until(lambda: len(looked) >= 4)
    pauses = [after - before for before, after in itertools.pairwise(looked)]
    assert all(pause >= least for pause, least in zip(pauses, (0.04, 0.09, 0.19), strict=False))
    stored["spec"] = readable
    await until(lambda: stack.api.applied)
    task.cancel()


async def test_few_wishes_are_written_at_a_time(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a burst of many endpoints each gets its wish, and one that cannot be written holds nobody up."""
    monkeypatch.setattr(waker, "HEAD_START", 0.0)
    names = [f"m{number}" for number in range(3 * waker.AT_ONCE)]
    stack.key()
    for name in names:
        stack.endpoint(name)
    writing = most = 0
    apply, go = stack.api.apply, asyncio.Event()

    async def slowly(*arguments: Any, **options: Any) -> Any:
        nonlocal writing, most
        if arguments[1]["metadata"]["name"] in names[: waker.AT_ONCE]:
            raise ConnectionFailed("away")
        writing += 1
        most = max(most, writing)
        await go.wait()
        writing -= 1
        return await apply(*arguments, **options)

    monkeypatch.setattr(stack.api, "apply", slowly)
    tasks = [asyncio.create_task(stack.post(body={"model": name, "messages": []})) for name in names]
    await until(lambda: all(stack.registry.endpoints[Name("demo", name)].gate.held for name in names))
    await until(lambda: writing == waker.AT_ONCE)
    go.set()
    await until(lambda: len(stack.api.applied) == 2 * waker.AT_ONCE)
    assert most == waker.AT_ONCE
    monkeypatch.setattr(stack.api, "apply", apply)
    await until(lambda: {obj["metadata"]["name"] for obj in stack.api.applied} == set(names))
    assert len(stack.api.applied) == len(names)
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


async def test_in_a_burst_wishes_give_way_to_the_wakes(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    """By as much as all of them take; none waits any more once nobody follows."""
    monkeypatch.setattr(waker, "HEAD_START", 0.05)
    monkeypatch.setattr(waker, "SHARE", 600.0)
    monkeypatch.setattr(waker, "LONGEST_SHARE", 600.0)
    stack.key()
    for name in ("m0", "m1"):
        stack.endpoint(name)
    operator = Follower()
    stack.tracker.follow(operator)
    tasks = [asyncio.create_task(stack.post(body={"model": name, "messages": []})) for name in ("m0", "m1")]
    await until(lambda: all(stack.registry.endpoints[Name("demo", name)].gate.held for name in ("m0", "m1")))
    await asyncio.sleep(0.2)
    assert stack.api.applied == []
    stack.tracker.leave(operator)
    await until(lambda: len(stack.api.applied) == 2)
    for task in tasks:
        task.cancel()


async def test_a_wake_is_told_with_its_stamps(stack: Stack, replica: Replica) -> None:
    """After the first byte of its first request, once, with what the runtime tells of its start."""
    told: list[Wake] = []

    class Listener:
        def changed(self, endpoint: str, urgent: bool) -> None:
            """Nothing to do."""

        def woke(self, wake: Wake) -> None:
            told.append(wake)

    stack.tracker.follow(Listener())
    replica.startup = {
        "stages": [{"name": "import", "ms": 120.5}, {"name": "load", "ms": 80}],
        "model": {"digest": f"sha256:{'0' * 64}", "bytes": 538, "layout": "new"},
    }
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
    assert wake.weights == Weights(digest=f"sha256:{'0' * 64}", bytes=538)
    assert stamps.demand_us <= stamps.address_us <= stamps.connect_us <= stamps.ready_us <= stamps.first_byte_us
    assert {intent.wake_id for intent in stack.records()[0] if intent.cold} == {wake_id}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[1]",
        b'{"stages": {}}',
        b'{"model": []}',
        b'{"model": {"bytes": -1}}',
        b'{"model": {"bytes": "1"}}',
        b'{"model": {"digest": "sha256:0"}}',
        b'{"model": {"revision": ""}}',
    ],
)
def test_what_an_engine_says_of_its_model_is_judged(body: bytes) -> None:
    """Any engine may have such a route, and say anything there."""
    assert weights_of(body) is None
