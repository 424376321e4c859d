"""Many who may go at once: a few go in each turn of the loop, and few connections are made at the same time."""

from __future__ import annotations

import asyncio
from functools import partial

import pytest

from tests.activator.replica import Replica
from tests.activator.stack import Stack, gather, until
from zerotide.activator.traffic.holder import BURST, Pace
from zerotide.activator.wire.pool import MOST_DIALLING, Pool
from zerotide.activator.wire.upstream import UpstreamConnection


async def test_a_few_in_each_turn_and_in_order() -> None:
    """Everyone goes, in order, a burst at a time."""
    pace = Pace()
    gone: list[int] = []
    for number in range(3 * BURST):
        pace.release(partial(gone.append, number))
    seen = []
    while len(gone) < 3 * BURST:
        seen.append(len(gone))
        await asyncio.sleep(0)
    assert gone == list(range(3 * BURST))
    assert seen[0] == BURST
    assert len(seen) >= 2
    await asyncio.sleep(0.01)
    pace.release(partial(gone.append, -1))
    assert gone[-1] == -1, "nobody waits before it"


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
