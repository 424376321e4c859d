"""Drive load: so many requests at once, or so many a second, for a time; each sends and tells how it went.

A request of so many a second is timed from when it was due, so one that could not be sent in time is not flattered.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from dataclasses import dataclass, replace
from typing import Any

UNFINISHED, UNSENT = "unfinished", "not_sent"
MOST = 1_000
"""Requests under way at most where so many a second are asked for; what is due beyond that is not sent."""
PAUSE_S = 0.25
"""What one of so many at once waits after a failure: one that fails at once must not become a storm."""


@dataclass(frozen=True, slots=True)
class Sample:
    """How one request went, in seconds; `due_s` is after the run began, `code` is empty where it succeeded."""

    due_s: float
    latency_s: float
    first_s: float = 0.0
    gaps_s: tuple[float, ...] = ()
    cold: bool = False
    input_tokens: int = 0
    output_tokens: int = 0
    code: str = ""


@dataclass(frozen=True, slots=True)
class Load:
    """How much is sent: `at_once`, or `rate` a second (Poisson), for a time or until so many were sent."""

    at_once: int
    duration_s: float
    rate: float | None = None
    requests: int | None = None
    grace_s: float = 60.0
    """How long what is under way at the end is waited for."""
    seed: int = 1


Send = Callable[[int, float], Awaitable[Sample]]
"""Send the request of a number, which was due at a time of the loop."""


async def drive(load: Load, send: Send) -> list[Sample]:
    """Return how each request went, in the order of their ends."""
    driver = _Driver(load, send)
    work = driver.in_time() if load.rate is not None else driver.in_turn()
    tasks = [asyncio.create_task(each) async for each in work]
    try:
        if tasks:
            left_s = driver.until_s - driver.now_s() + load.grace_s
            await asyncio.wait(tasks, timeout=max(left_s, 0.0))
    finally:
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
    for result in ended:
        if isinstance(result, Exception):
            raise result
    return driver.samples


class _Driver:
    """One run: what was sent, and what came of it."""

    def __init__(self, load: Load, send: Send) -> None:
        self.load, self._send, self.samples = load, send, list[Sample]()
        self._loop = asyncio.get_running_loop()
        self._began_s, self._sent, self._running = self._loop.time(), 0, 0
        self.until_s = self._began_s + load.duration_s
        self._most = math.inf if load.requests is None else load.requests

    def now_s(self) -> float:
        """Return the time of the loop."""
        return self._loop.time()

    async def in_turn(self) -> AsyncIterator[Coroutine[Any, Any, object]]:
        """Yield as many workers as there are to be requests at once, each of which sends one after the other."""
        for _ in range(self.load.at_once):
            yield self._work()

    async def in_time(self) -> AsyncIterator[Coroutine[Any, Any, object]]:
        """Yield each request when it is due."""
        dice, due_s = random.Random(self.load.seed), self._began_s
        assert self.load.rate is not None
        while self._sent < self._most:
            due_s += dice.expovariate(self.load.rate)
            if due_s >= self.until_s:
                return
            await asyncio.sleep(max(due_s - self.now_s(), 0.0))
            if self._running >= MOST:
                self._sent += 1
                self.samples.append(Sample(due_s - self._began_s, 0.0, code=UNSENT))
                continue
            yield self._one(self._next(), due_s)

    def _next(self) -> int:
        self._sent += 1
        self._running += 1
        return self._sent

    async def _work(self) -> None:
        while self.now_s() < self.until_s and self._sent < self._most:
            if not await self._one(self._next(), self.now_s()):
                await asyncio.sleep(PAUSE_S)

    async def _one(self, number: int, due_s: float) -> bool:
        """Send one, and tell whether it succeeded."""
        after_s = due_s - self._began_s
        try:
            sample = await self._send(number, due_s)
        except asyncio.CancelledError:
            self.samples.append(Sample(after_s, self.now_s() - due_s, code=UNFINISHED))
            raise
        finally:
            self._running -= 1
        self.samples.append(replace(sample, due_s=after_s))
        return not sample.code
