"""Many who may go at once: a few go in each turn of the loop, and few connections are made at the same time."""

from __future__ import annotations

import asyncio

import pytest

from tests.activator.replica import Replica
from tests.activator.stack import Stack, gather, until
from zerotide.activator.traffic.holder import BURST, Pace
from zerotide.activator.wire.pool import MOST_DIALLING, Pool
from zerotide.activator.wire.upstream import UpstreamConnection


async def test_a_few_in_each_turn_and_in_order() -> None:
    """Everyone goes, in order, a burst at a time; whoever left meanwhile is passed over."""
    loop, pace = asyncio.get_running_loop(), Pace()
    waiters: list[asyncio.Future[None]] = [loop.create_future() for _ in range(3 * BURST)]
    for waiter in waiters:
        pace.release(waiter)
    waiters[-1].cancel()
    assert [waiter.done() for waiter in waiters].count(True) == BURST + 1
    seen = []
    while not all(waiter.done() for waiter in waiters):
        done = [waiter.done() for waiter in waiters[:-1]]
        assert done == sorted(done, reverse=True)
        seen.append(done.count(True))
        await asyncio.sleep(0)
    assert seen[0] == BURST
    assert len(seen) >= 2
    late: asyncio.Future[None] = loop.create_future()
    await asyncio.sleep(0.01)
    pace.release(late)
    assert late.done(), "nobody waits before it"


async def test_few_connections_at_once(stack: Stack, replica: Replica, monkeypatch: pytest.MonkeyPatch) -> None:
    """A crowd that is let go makes them in turn, and takes those that others are done with."""
    dialling = most = made = 0

    async def counted(pool: Pool, timeout: float | None = None) -> UpstreamConnection:
        nonlocal dialling, most, made
        dialling, made = dialling + 1, made + 1
        most = max(most, dialling)
        await asyncio.sleep(0.02)
        try:
            return await connect(pool, timeout)
        finally:
            dialling -= 1

    connect = Pool.connect
    endpoint = stack.endpoint(scaling={"concurrency": {"limit": 0}}, hold={"maxRequests": 500})
    stack.key()
    posts = [stack.post() for _ in range(100)]
    crowd = asyncio.create_task(gather(*posts))
    await until(lambda: endpoint.gate.held == 100)
    monkeypatch.setattr(Pool, "connect", counted)
    stack.pod(replica.port)
    answers = await crowd
    assert [answer.status for answer in answers] == [200] * 100
    assert 1 < most <= MOST_DIALLING
    assert made < 100
