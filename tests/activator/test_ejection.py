"""A replica that fails again and again gets nothing for a while, and is asked before it gets something again."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

from tests.activator.replica import Received, Replica, reset, send_json
from tests.activator.stack import Stack, until
from zerotide.activator.admission.ejection import ENOUGH
from zerotide.activator.endpoints.endpoint import Endpoint


async def fail(request: Received, writer: asyncio.StreamWriter) -> None:
    """Answer 500."""
    send_json(writer, {"error": "no"}, 500)


async def pair(stack: Stack, exits: AsyncExitStack) -> tuple[Endpoint, Replica, Replica]:
    """Have an endpoint with a bad and a good replica; requests of session `bad` prefer the bad one."""
    endpoint = stack.endpoint(status={"desiredReplicas": 2, "state": "Awake"}, routing={"stickyHeader": "session"})
    stack.key()
    first, second = [await exits.enter_async_context(Replica()) for _ in range(2)]
    stack.pod(first.port, name="m-0")
    stack.pod(second.port, name="m-1")
    await until(lambda: len(endpoint.gate.seats) == 2)
    await stack.post(session="bad")
    bad, good = (first, second) if first.posts else (second, first)
    return endpoint, bad, good


def ejections(stack: Stack) -> list[str]:
    """Return the metric's lines."""
    page = stack.service.metrics.render()[0].decode()
    return [line for line in page.splitlines() if line.startswith("zerotide_replica_ejections_total")]


async def test_a_replica_that_answers_with_errors(stack: Stack) -> None:
    """Its errors pass to the clients until it is ejected; when its time is over it is probed, and back."""
    async with AsyncExitStack() as exits:
        endpoint, bad, good = await pair(stack, exits)
        bad.behave = fail
        assert [(await stack.post(session="bad")).status for _ in range(ENOUGH)] == [500] * ENOUGH
        labels = 'failure="status",inference_endpoint="m",namespace="demo"'
        assert ejections(stack) == [f"zerotide_replica_ejections_total{{{labels}}} 1.0"]
        bad.behave = None
        assert [(await stack.post(session="bad")).status for _ in range(3)] == [200] * 3
        assert len(good.posts) == 3
        probes = len(bad.received) - len(bad.posts)
        ejected = next(each for each in endpoint.replicas.values() if each.health.ejections)
        assert ejected.health.until - stack.service.clock.monotonic() > 3
        ejected.recalled.set()  # as if its time were over
        await until(lambda: len(endpoint.gate.seats) == 2)
        assert len(bad.received) - len(bad.posts) == probes + 1, "probed before it returned"
        assert (await stack.post(session="bad")).status == 200
        assert len(good.posts) == 3


async def test_an_ejection_ends_by_itself(stack: Stack) -> None:
    """When its time is over the replica is asked, and comes back when it says yes."""
    async with AsyncExitStack() as exits:
        endpoint, bad, _ = await pair(stack, exits)
        bad.behave = fail
        for _ in range(ENOUGH - 1):
            await stack.post(session="bad")
        await stack.post(session="bad")
        ejected = next(each for each in endpoint.replicas.values() if each.health.ejections)
        assert ejected.dialling is not None
        ejected.dialling.cancel()
        ejected.health = ejected.health._replace(until=stack.service.clock.monotonic() + 0.2)
        bad.ready = False
        stack.registry._start_dialling(endpoint, ejected)
        await until(lambda: len(bad.received) > len(bad.posts) + 3)
        assert len(endpoint.gate.seats) == 1
        bad.ready = True
        await until(lambda: len(endpoint.gate.seats) == 2)


async def test_the_last_one_is_never_ejected(stack: Stack, replica: Replica) -> None:
    """A bad replica is better than none."""
    endpoint = await stack.awake(replica)
    replica.behave = fail
    assert {(await stack.post()).status for _ in range(3 * ENOUGH)} == {500}
    assert not endpoint.gate.cold
    assert ejections(stack) == []


async def test_an_ejected_one_returns_when_the_other_goes(stack: Stack) -> None:
    """It does not wait for its time to be over where nobody else is left."""
    async with AsyncExitStack() as exits:
        endpoint, bad, good = await pair(stack, exits)
        bad.behave = fail
        for _ in range(ENOUGH):
            await stack.post(session="bad")
        assert len(endpoint.gate.seats) == 1
        bad.behave = None
        names = {each.candidate.port: each.candidate.name for each in endpoint.replicas.values()}
        stack.delete_pod(names[good.port])
        async with asyncio.timeout(2):
            assert (await stack.post(session="bad")).status == 200


async def test_lost_answers_eject_and_clients_notice_nothing(stack: Stack) -> None:
    """Each request is retried on the other replica; after enough of them the bad one is left alone."""
    async with AsyncExitStack() as exits:
        endpoint, bad, good = await pair(stack, exits)
        bad.behave = reset
        for _ in range(ENOUGH):
            assert (await stack.post(session="bad")).status == 200
            await until(lambda: len(endpoint.gate.seats) == 2 or ejections(stack))
        labels = 'failure="lost",inference_endpoint="m",namespace="demo"'
        assert ejections(stack) == [f"zerotide_replica_ejections_total{{{labels}}} 1.0"]
        tried = len(bad.posts)
        assert (await stack.post(session="bad")).status == 200
        assert len(bad.posts) == tried
        assert len(good.posts) == ENOUGH + 1


async def test_one_good_answer_ends_a_row(stack: Stack) -> None:
    """Errors here and there do not eject."""
    async with AsyncExitStack() as exits:
        _, bad, good = await pair(stack, exits)
        for _ in range(2):
            bad.behave = fail
            for _ in range(ENOUGH - 1):
                assert (await stack.post(session="bad")).status == 500
            bad.behave = None
            assert (await stack.post(session="bad")).status == 200
        assert ejections(stack) == []
        assert good.posts == []
