"""Warm requests need no task: what goes that way, and that whatever goes wrong on it ends as it does elsewhere."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.activator.replica import Received, Replica
from tests.activator.stack import Stack, gather, until
from zerotide.activator.failures import RequestTooOld
from zerotide.activator.usage.lines import intent_facts, intent_line, quoted, settlement_line
from zerotide.api.usage import Intent, Outcome, Settlement, Tokens, decode


class Tasks:
    """Counts the requests that a task was made for."""

    def __init__(self, stack: Stack) -> None:
        self.count = 0
        handle = stack.service.server.handle

        def counting(exchange: Any) -> Any:
            self.count += 1
            return handle(exchange)

        stack.service.server.handle = counting


@pytest.fixture
async def tasks(stack: Stack, replica: Replica) -> AsyncIterator[Tasks]:
    """Have an awake endpoint and count tasks; in the end nothing is left of any request."""
    endpoint = await stack.awake(replica)
    yield Tasks(stack)
    await until(lambda: not stack.service.gateway.active)
    assert not endpoint.gate.busy
    demand = stack.tracker.demand("demo/m")
    assert demand is not None and not demand.in_flight and not demand.held


async def test_warm_requests_need_no_task(stack: Stack, replica: Replica, tasks: Tasks) -> None:
    """The first as well as the next ones, whole answers as well as streams, each recorded once."""
    for _ in range(3):
        assert (await stack.post()).status == 200
    assert (await stack.post(body={"model": "m", "messages": [], "stream": True})).status == 200
    assert tasks.count == 0
    intents, settlements = stack.records()
    assert len(intents) == len(settlements) == 4
    assert {settlement.outcome for settlement in settlements} == {Outcome.COMPLETED}


async def test_a_connection_is_made_for_what_was_admitted(stack: Stack, replica: Replica, tasks: Tasks) -> None:
    """Two at once where the pool has one connection: both are served, and neither is read a second time."""
    answers = await gather(stack.post(), stack.post())
    assert [answer.status for answer in answers] == [200, 200]
    assert tasks.count == 0


async def test_refusals_are_those_of_every_other_way(stack: Stack, replica: Replica, tasks: Tasks) -> None:
    """A head that is known opens nothing once its key is revoked."""
    assert (await stack.post()).status == 200
    stack.revoke("k")
    assert (await stack.post()).status == 401
    assert len(replica.received) == 2  # its health, and one chat


async def test_a_replica_that_is_lost_before_it_answers(stack: Stack, replica: Replica, tasks: Tasks) -> None:
    """The request is sent to another one, and its client sees nothing but the answer."""

    async def die(request: Received, writer: asyncio.StreamWriter) -> None:
        replica.behave = None
        writer.close()

    replica.behave = die
    async with Replica() as other:
        answer = asyncio.create_task(stack.post())
        await until(lambda: replica.behave is None)
        stack.pod(other.port, name="m-2")
        assert (await answer).status == 200
    intents, settlements = stack.records()
    assert intents[0].request_id == intents[-1].request_id
    assert settlements[-1].outcome is Outcome.COMPLETED


async def test_a_client_that_leaves(stack: Stack, replica: Replica, tasks: Tasks) -> None:
    """Its replica is told to stop, and the record says why."""
    replica.hold = asyncio.Event()
    request = asyncio.create_task(stack.post())
    await until(lambda: replica.in_flight)
    request.cancel()
    await until(lambda: stack.records()[1])
    assert stack.records()[1][0].outcome is Outcome.CLIENT_GONE
    assert tasks.count == 0


async def test_the_server_ends_a_request(stack: Stack, replica: Replica, tasks: Tasks) -> None:
    """One that lives too long is answered, although no task works on it."""
    replica.hold = asyncio.Event()
    request = asyncio.create_task(stack.post())
    await until(lambda: replica.in_flight)
    stack.service.server.overrule(RequestTooOld("the request lived longer than 1 s"))
    assert (await request).status == 504
    assert stack.records()[1][0].outcome is Outcome.TIMED_OUT


def test_lines_are_what_the_models_write(stack: Stack) -> None:
    """A line from the template reads back as the record that it stands for."""
    endpoint = stack.endpoint(model={"uri": "image:///m", "name": "org/m.1"})
    facts = intent_facts(endpoint.profile, "demo/team-a", "k", "act-0", 'x"\\' * 200)
    line = intent_line(facts, "r1", 2, quoted("pod-1"), "law-1.0_b", True, True, "wake", 5, 6, 7)
    assert decode(line) == Intent(
        request_id="r1",
        attempt=2,
        namespace="demo",
        endpoint="m",
        endpoint_uid=endpoint.profile.uid,
        consumer="demo/team-a",
        key_id="k",
        pod_uid="pod-1",
        activator="act-0",
        model="org/m.1",
        adapter="law-1.0_b",
        stream=True,
        cold=True,
        wake_id="wake",
        accepted_us=5,
        forwarded_us=6,
        request_bytes=7,
        idempotency_key=('x"\\' * 200)[:256],
    )
    for cold, wake in ((True, "pod-1"), (False, "")):
        unnamed = decode(intent_line(facts, "r1", 2, quoted("pod-1"), "", True, cold, "", 5, 6, 7))
        assert isinstance(unnamed, Intent) and (unnamed.cold, unnamed.wake_id) == (cold, wake)
    for first, tokens in ((None, None), (8, Tokens(input=1, cached=1, output=2, estimated=True))):
        told = settlement_line("r1", 1, first, 9, 10, tokens, Outcome.LOST, 0)
        assert decode(told) == Settlement(
            request_id="r1",
            attempt=1,
            first_byte_us=first,
            ended_us=9,
            response_bytes=10,
            tokens=tokens,
            outcome=Outcome.LOST,
            status=0,
        )
