"""Requests that belong together go to one replica, end to end on loopback."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import Any

from tests.activator.replica import Replica
from tests.activator.stack import Stack, until


async def several(stack: Stack, exits: AsyncExitStack, count: int, **spec: Any) -> list[Replica]:
    """Have an endpoint with so many replicas."""
    endpoint = stack.endpoint(status={"desiredReplicas": count, "state": "Awake"}, **spec)
    stack.key()
    replicas = [await exits.enter_async_context(Replica()) for _ in range(count)]
    for number, replica in enumerate(replicas):
        stack.pod(replica.port, name=f"m-{number}")
    await until(lambda: len(endpoint.gate.seats) == count)
    return replicas


def chat(text: str) -> dict[str, Any]:
    """Return a chat that begins with a text."""
    return {"model": "m", "messages": [{"role": "user", "content": text}]}


async def test_conversations_stay_together(stack: Stack) -> None:
    """Requests of one beginning go to one replica, and many beginnings to all."""
    async with AsyncExitStack() as exits:
        routing = {"policy": "PrefixAffinity", "prefixBytes": 64}
        replicas = await several(stack, exits, 3, routing=routing)
        for number in range(12):
            before = [len(replica.posts) for replica in replicas]
            for turn in range(3):
                text = f"conversation {number}: " + "x" * 64 + str(turn)
                assert (await stack.post(body=chat(text))).status == 200
            after = [len(replica.posts) for replica in replicas]
            assert sorted(b - a for a, b in zip(before, after, strict=True)) == [0, 0, 3]
        assert all(replica.posts for replica in replicas)


async def test_a_session_sticks(stack: Stack) -> None:
    """The header decides, whatever the prompt; requests without it go by load."""
    async with AsyncExitStack() as exits:
        replicas = await several(stack, exits, 3, routing={"stickyHeader": "X-Session-Id"})
        for number in range(6):
            assert (await stack.post(body=chat(str(number)), x_session_id="s1")).status == 200
        assert sorted(len(replica.posts) for replica in replicas) == [0, 0, 6]
        assert [post.get("x-session-id") for replica in replicas for post in replica.posts] == ["s1"] * 6


async def test_a_favourite_is_not_overloaded(stack: Stack) -> None:
    """Many requests of one beginning at once are spread within the bound, and nobody waits."""
    async with AsyncExitStack() as exits:
        replicas = await several(stack, exits, 3, routing={"policy": "PrefixAffinity", "maxLoadPercent": 125})
        for replica in replicas:
            replica.hold = asyncio.Event()
        tasks = [asyncio.create_task(stack.post(body=chat("same"))) for _ in range(12)]
        await until(lambda: sum(replica.in_flight for replica in replicas) == 12)
        assert max(replica.in_flight for replica in replicas) <= 5
        assert min(replica.in_flight for replica in replicas) >= 2
        for replica in replicas:
            assert replica.hold is not None
            replica.hold.set()
        assert {answer.status for answer in await asyncio.gather(*tasks)} == {200}


async def test_a_policy_changes_while_replicas_stay(stack: Stack) -> None:
    """The next request goes by the new policy."""
    async with AsyncExitStack() as exits:
        replicas = await several(stack, exits, 2)
        stack.endpoint(routing={"stickyHeader": "session"})
        for _ in range(4):
            assert (await stack.post(session="a")).status == 200
        assert sorted(len(replica.posts) for replica in replicas) == [0, 4]
