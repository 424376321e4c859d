"""Many who may go at once: a few go in each turn of the loop, and few connections are made at the same time."""

from __future__ import annotations

import asyncio
from functools import partial
from itertools import pairwise

import pytest

from tests.activator.replica import Replica
from tests.activator.stack import Stack, gather, until
from zerotide.activator.traffic.holder import BURST, Pace
from zerotide.activator.wire.pool import MOST_DIALLING, Pool
from zerotide.activator.wire.upstream import UpstreamConnection


async def test_a_few_in_each_turn_and_in_order() -> None:
    """Everyone goes, in order: one alone, then twice as many in each turn, at last a burst at a time."""
    pace = Pace()
    gone: list[int] = []
    for number in range(4 * BURST):
        pace.release(partial(gone.append, number))
    seen = [0]
    while seen[-1] < 4 * BURST:
        seen.append(len(gone))
        await asyncio.sleep(0)
    assert gone == list(range(4 * BURST))
    steps = [after - before for before, after in pairwise(seen)]
    assert steps[:5] == [1, 2, 4, 8, BURST] and max(steps) == BURST
    await asyncio.sleep(0.01)
    for number in (-1, -2):
        pace.release(partial(gone.append, number))
    assert gone[-1] == -1, "nobody waits before the first, and one goes alone again"
    await asyncio.sleep(0.01)
    assert gone[-1] == -2


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
