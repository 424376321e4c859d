"""Requests in no hurry: they let others go first, and wake nothing by themselves unless the endpoint says so."""

from __future__ import annotations

import asyncio
import json
from functools import partial

from tests.activator.replica import Replica
from tests.activator.stack import Answer, Stack, gather, until
from zerotide.activator.endpoints.endpoint import Endpoint

AWAKE = {"desiredReplicas": 1, "state": "Awake"}


def send(stack: Stack, priority: str, mark: str = "") -> asyncio.Task[Answer]:
    """Send a request of a priority."""
    body = {"model": "m", "messages": [], "user": mark}
    return asyncio.create_task(stack.post(body=body, x_zerotide_priority=priority))


async def test_a_batch_waits_until_somebody_else_wakes_the_endpoint(stack: Stack, replica: Replica) -> None:
    """It is held without a wish and without demand; with the other one both are answered."""
    endpoint = stack.endpoint()
    stack.key()
    batch = send(stack, "batch")
    await until(lambda: endpoint.gate.held == 1)
    demand = stack.tracker.demand("demo/m")
    assert demand is not None and demand.held == 0
    stack.endpoint()
    assert not stack.service.waker._asking and not stack.api.applied
    hurried = send(stack, "interactive")
    await until(lambda: stack.api.applied)
    demand = stack.tracker.demand("demo/m")
    assert demand is not None and demand.held == 1
    stack.endpoint(status=AWAKE)
    demand = stack.tracker.demand("demo/m")
    assert demand is not None and demand.held == 2, "awake for somebody, it stays so for everybody"
    stack.endpoint(status={"desiredReplicas": 0})
    demand = stack.tracker.demand("demo/m")
    assert demand is not None and demand.held == 1
    stack.pod(replica.port)
    assert [answer.status for answer in await gather(batch, hurried)] == [200, 200]
    demand = stack.tracker.demand("demo/m")
    assert demand is not None and (demand.held, demand.in_flight, endpoint.patients) == (0, 0, 0)


async def test_a_batch_wakes_where_it_may(stack: Stack) -> None:
    """`wakeFor: Any` makes no difference between them, also for those that wait already."""
    endpoint = stack.endpoint()
    stack.key()
    batch = send(stack, "batch")
    await until(lambda: endpoint.gate.held == 1)
    stack.endpoint(hold={"wakeFor": "Any"})
    await until(lambda: stack.api.applied)
    another = send(stack, "batch")
    await until(lambda: endpoint.gate.held == 2)
    demand = stack.tracker.demand("demo/m")
    assert demand is not None and demand.held == 1
    for task in (batch, another):
        task.cancel()


async def test_a_batch_s_time_is_over(stack: Stack) -> None:
    """Nobody woke the endpoint: the answer is that of any hold that took too long."""
    stack.endpoint(hold={"coldTimeout": "1s"})
    stack.key()
    answer = await send(stack, "batch")
    assert (answer.status, answer.code) == (503, "hold_timeout")
    assert not stack.api.applied


def holds(endpoint: Endpoint, number: int) -> bool:
    """Tell whether so many are held."""
    return endpoint.gate.held == number


async def test_those_in_a_hurry_go_first(stack: Stack, replica: Replica) -> None:
    """Whatever waits longer; within a class the order is that of coming."""
    replica.hold = asyncio.Event()
    endpoint = await stack.awake(replica, scaling={"concurrency": {"target": 1, "limit": 1}})
    tasks = [send(stack, "interactive", "first")]
    await until(lambda: replica.in_flight == 1)
    for number, (priority, mark) in enumerate([("batch", "b1"), ("Batch", "b2"), ("interactive", "i1"), ("", "i2")]):
        tasks.append(send(stack, priority, mark))
        await until(partial(holds, endpoint, number + 1))
    replica.hold.set()
    assert {answer.status for answer in await gather(*tasks)} == {200}
    assert [json.loads(post.body)["user"] for post in replica.posts] == ["first", "i1", "i2", "b1", "b2"]
    assert not any(post.get("x-zerotide-priority") for post in replica.posts)


async def test_another_priority_is_no_priority(stack: Stack) -> None:
    """It is refused with what it should have been."""
    stack.endpoint()
    stack.key()
    answer = await send(stack, "urgent")
    assert (answer.status, answer.code) == (400, "invalid_request")
    assert "interactive or batch" in answer.json["error"]["message"]
