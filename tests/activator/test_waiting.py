"""Held requests need no task either: how they go on, and that none is lost or counted twice, whatever ends them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.activator.replica import Replica
from tests.activator.stack import Answer, Stack, gather, until
from tests.activator.test_express import Tasks
from zerotide.activator.endpoints.endpoint import Endpoint
from zerotide.activator.failures import ShuttingDown
from zerotide.activator.traffic.holder import BURST
from zerotide.api.usage import Outcome

LONG = 30.0
CROWD = 3 * BURST


@pytest.fixture
async def endpoint(stack: Stack) -> AsyncIterator[Endpoint]:
    """Have an endpoint that sleeps; in the end nothing is left of any request, nor any task made for one."""
    endpoint = stack.endpoint(scaling={"concurrency": {"limit": 0}}, hold={"maxRequests": 500})
    stack.key()
    tasks = Tasks(stack)
    yield endpoint
    await until(lambda: not stack.service.gateway.active, LONG)
    assert tasks.count == 0
    assert not endpoint.gate.held and not endpoint.gate.busy
    demand = stack.tracker.demand("demo/m")
    assert demand is not None and not demand.in_flight and not demand.held
    assert not stack.service.gateway._pools._accounts
    assert not stack.service.gateway._office.under_way


async def held(stack: Stack, endpoint: Endpoint, count: int) -> list[asyncio.Task[Answer]]:
    """Have so many requests held."""
    posts = [asyncio.create_task(stack.post()) for _ in range(count)]
    await until(lambda: endpoint.gate.held == count, LONG)
    demand = stack.tracker.demand("demo/m")
    assert demand is not None and demand.held == count
    return posts


async def test_a_crowd_goes_on_once_a_replica_is_there(stack: Stack, replica: Replica, endpoint: Endpoint) -> None:
    """Each is answered and recorded once, with the time for which it waited."""
    posts = await held(stack, endpoint, CROWD)
    stack.pod(replica.port)
    answers = await gather(*posts)
    assert [answer.status for answer in answers] == [200] * CROWD
    assert {answer.headers["x-zerotide-cold-start"] for answer in answers} == {"true"}
    assert all(int(answer.headers["x-zerotide-queue-ms"]) > 0 for answer in answers)
    intents, settlements = stack.records()
    assert len({intent.request_id for intent in intents}) == len(intents) == len(settlements) == CROWD
    assert all(intent.cold and intent.forwarded_us >= intent.accepted_us for intent in intents)
    assert {settlement.outcome for settlement in settlements} == {Outcome.COMPLETED}


async def test_clients_that_leave_while_they_wait(stack: Stack, endpoint: Endpoint) -> None:
    """They hold no place any more, and nothing is recorded of them."""
    for post in await held(stack, endpoint, 5):
        post.cancel()
    await until(lambda: not endpoint.gate.held, LONG)
    assert stack.records() == ([], [])


async def test_clients_that_leave_when_they_may_go(stack: Stack, replica: Replica, endpoint: Endpoint) -> None:
    """Between the gate's decision and their turn: their seats are free again, and no replica hears of them."""
    stack.endpoint(scaling={"concurrency": {"target": 1, "limit": 1}})
    stack.pod(replica.port)
    await until(lambda: not endpoint.gate.cold, LONG)
    replica.hold = asyncio.Event()
    first = asyncio.create_task(stack.post())
    await until(lambda: replica.in_flight, LONG)
    heard = len(replica.received)
    posts = [asyncio.create_task(stack.post()) for _ in range(CROWD)]
    await until(lambda: endpoint.gate.held == CROWD, LONG)
    busy = {run._visit.exchange for run in stack.service.gateway._office.under_way}
    stack.endpoint(scaling={"concurrency": {"limit": 0}})
    assert not endpoint.gate.held, "all may go"
    for connection in list(stack.service.server.connections):
        if connection._current is not None and connection._current not in busy:  # type: ignore[attr-defined]
            connection.abort()
    await asyncio.gather(*posts, return_exceptions=True)
    replica.hold.set()
    await first
    assert len(replica.received) == heard


async def test_the_server_ends_what_waits(stack: Stack, endpoint: Endpoint) -> None:
    """Each is answered as one that was held for too long, and holds its place no longer at once."""
    posts = await held(stack, endpoint, 3)
    stack.service.server.overrule(ShuttingDown("the gateway ends"))
    assert not endpoint.gate.held
    answers = await gather(*posts)
    assert {(answer.status, answer.code) for answer in answers} == {(503, "hold_timeout")}


async def test_what_is_refused_at_the_gate(stack: Stack, endpoint: Endpoint) -> None:
    """There is no room for one more, and the others keep theirs."""
    posts = await held(stack, endpoint, 2)
    stack.endpoint(hold={"maxRequests": 2})
    assert (await stack.post()).code == "queue_full"
    assert endpoint.gate.held == 2
    for post in posts:
        post.cancel()
