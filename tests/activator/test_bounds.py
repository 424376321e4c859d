"""What may be held and sent at once: by endpoint, by replica, by consumer, and for how long."""

from __future__ import annotations

import asyncio
import json

import pytest

from tests.activator.holding import held
from tests.activator.replica import TEXT, Replica
from tests.activator.stack import Stack, gather, until
from zerotide.activator.council.membership import Member


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
