"""Workers take keys as they come, retry what failed, and end what they began."""

from __future__ import annotations

import asyncio
import contextlib
import math
import random
from collections import Counter
from collections.abc import AsyncIterator

import pytest

from zerotide.controller.failures import NotLeading
from zerotide.controller.queue import TURN, Queue, Work
from zerotide.controller.schedule import Priority, Schedule
from zerotide.kube import Unavailable


@contextlib.asynccontextmanager
async def working(work: Work, workers: int = 3) -> AsyncIterator[Queue]:
    """Run a queue with a short back-off."""
    queue = Queue(work, schedule=Schedule(first_backoff=0.01), rng=random.Random(1))
    tasks = [asyncio.create_task(queue.run()) for _ in range(workers)]
    try:
        yield queue
    finally:
        await queue.close(1.0)
        await asyncio.gather(*tasks)


async def test_every_key_is_worked_on_and_never_twice_at_once() -> None:
    """However often it is added."""
    busy: set[str] = set()
    done: Counter[str] = Counter()
    all_done = asyncio.Event()

    async def work(key: str) -> None:
        assert key not in busy
        busy.add(key)
        await asyncio.sleep(0.001)
        busy.discard(key)
        done[key] += 1
        if len(done) == 20:
            all_done.set()

    async with working(work) as queue:
        for number in range(200):
            queue.add(f"k{number % 20}")
        async with asyncio.timeout(5):
            await all_done.wait()
    assert max(done.values()) <= 10


@pytest.mark.parametrize("error", [Unavailable(503, "", "later"), RuntimeError("a bug")])
async def test_a_failure_is_tried_again(error: Exception) -> None:
    """After a back-off; other keys go on meanwhile."""
    tries: list[str] = []
    enough = asyncio.Event()

    async def work(key: str) -> None:
        tries.append(key)
        if key == "bad" and tries.count("bad") < 3:
            raise error
        if tries.count("bad") == 3:
            enough.set()

    async with working(work) as queue:
        queue.add("bad")
        queue.add("good")
        async with asyncio.timeout(5):
            await enough.wait()
    assert tries.count("good") == 1


async def test_work_without_the_lease_is_dropped() -> None:
    """The one that leads does it."""
    calls = []

    async def work(key: str) -> None:
        calls.append(key)
        raise NotLeading("the lease is not held")

    async with working(work) as queue:
        queue.add("a")
        while not calls:
            await asyncio.sleep(0)
    assert calls == ["a"]


async def test_a_wake_overtakes_a_sweep() -> None:
    """Whatever waits already."""
    order: list[str] = []
    started, gate, over = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def work(key: str) -> None:
        order.append(key)
        started.set()
        await gate.wait()
        if len(order) == 5:
            over.set()

    async with working(work, workers=1) as queue:
        queue.add("first")
        await started.wait()
        for name in ("s1", "s2", "s3"):
            queue.add(name, Priority.SWEEP)
        queue.add("wake", Priority.WAKE)
        assert len(queue) == 4
        gate.set()
        async with asyncio.timeout(5):
            await over.wait()
    assert order == ["first", "wake", "s1", "s2", "s3"]


async def test_a_delay_is_kept_and_cut_short_by_news() -> None:
    """And forgotten once the key was worked on."""
    loop = asyncio.get_running_loop()
    times: list[float] = []
    changed = asyncio.Event()

    async def work(key: str) -> None:
        times.append(loop.time())
        changed.set()

    async with working(work) as queue:
        began = loop.time()
        queue.add_after("a", 0.05)
        async with asyncio.timeout(5):
            await changed.wait()
        assert times[0] - began >= 0.05
        changed.clear()
        queue.add_after("a", 60)
        queue.add("a")
        async with asyncio.timeout(5):
            await changed.wait()
        queue.add_after("b", 0.0)
    assert 2 <= len(times) <= 3


async def test_a_key_that_always_comes_back_leaves_room_for_others() -> None:
    """Even where its work awaits nothing."""
    rounds = 0

    async def work(key: str) -> None:
        nonlocal rounds
        rounds += 1
        queue.add(key)

    async with working(work, workers=1) as queue:
        queue.add("a")
        async with asyncio.timeout(5):
            while rounds < 100:
                await asyncio.sleep(0)
    assert rounds >= 100


async def test_a_delay_is_kept_while_who_waited_for_it_is_busy() -> None:
    """Another worker that is free sees to it."""
    busy, gate, late = asyncio.Event(), asyncio.Event(), asyncio.Event()
    worked: list[str] = []

    async def work(key: str) -> None:
        worked.append(key)
        if key == "late":
            late.set()
            return
        busy.set()
        await gate.wait()

    async with working(work) as queue:
        await asyncio.sleep(0)
        queue.add_after("late", 0.05)
        await asyncio.sleep(0)
        (waits,) = [waiter for waiter, at in queue._sleepers.items() if at < math.inf]
        queue._sleepers = {waits: queue._sleepers.pop(waits), **queue._sleepers}  # the one that is woken next
        queue.add("long")
        await busy.wait()
        try:
            async with asyncio.timeout(5):
                await late.wait()
        finally:
            gate.set()
    assert worked == ["long", "late"]


@pytest.mark.parametrize(("error", "longest"), [(Unavailable(503, "", "away"), 18.0), (RuntimeError("a bug"), 360.0)])
async def test_a_server_that_is_away_is_no_reason_to_wait_long(error: Exception, longest: float) -> None:
    """Nothing says that it is back, so each key tries; what is wrong with one key alone stays so for longer."""
    now, tries = 0.0, 0

    async def work(key: str) -> None:
        nonlocal tries
        tries += 1
        if tries < 12:
            raise error

    queue = Queue(work, clock=lambda: now, rng=random.Random(1))
    pauses = []
    queue.add("a")
    while (key := queue._schedule.take(now)) is not None:
        await queue._one(key)
        due = queue._schedule.next_due()
        if due is None:
            break
        pauses.append(due - now)
        now = due
    assert tries == 12 and len(pauses) == 11
    assert longest / 1.5 <= max(pauses) <= longest


async def test_the_end_waits_for_work_but_not_for_ever() -> None:
    """What is in work ends; what takes too long is cut off by whoever closes."""
    started, gate = asyncio.Event(), asyncio.Event()
    ended: list[str] = []

    async def work(key: str) -> None:
        started.set()
        await gate.wait()
        ended.append(key)

    queue = Queue(work)
    task = asyncio.create_task(queue.run())
    queue.add("a")
    queue.add("b")
    await started.wait()
    await queue.close(0.01)
    assert ended == []
    gate.set()
    await queue.close(1.0)
    await task
    assert ended == ["a"], "no new key is taken after the end"


async def test_a_row_of_work_lets_news_in() -> None:
    """However many workers there are: what awaits nothing keeps the event loop from whoever calls for no longer."""
    now, turn, worked = [0.0], [0], Counter[int]()

    async def work(key: str) -> None:
        now[0] += TURN / 2
        worked[turn[0]] += 1

    async def listen() -> None:
        while True:
            turn[0] += 1
            await asyncio.sleep(0)

    queue = Queue(work, clock=lambda: now[0])
    tasks = [asyncio.create_task(queue.run()) for _ in range(32)]
    listening = asyncio.create_task(listen())
    for number in range(200):
        queue.add(f"k{number}", Priority.SWEEP)
    async with asyncio.timeout(30):
        while worked.total() < 200:
            await asyncio.sleep(0)
    await queue.close(1.0)
    listening.cancel()
    await asyncio.gather(*tasks, listening, return_exceptions=True)
    assert max(worked.values()) <= 4
