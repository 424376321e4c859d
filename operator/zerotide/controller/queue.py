"""Work on keys, a few at a time and never the same one twice at once."""

from __future__ import annotations

import asyncio
import logging
import math
import random
import time
from collections.abc import Awaitable, Callable

from zerotide.controller.failures import NotLeading
from zerotide.controller.schedule import Priority, Schedule
from zerotide.kube import ConnectionFailed, KubeError, TooManyRequests, Unavailable

log = logging.getLogger(__name__)

FENCED = 0.5
"""Seconds until a key is tried again that could not be written for want of the lease."""
AWAY = (ConnectionFailed, Unavailable, TooManyRequests)
AWAY_LONGEST = 15.0
"""Seconds until a key is tried again at most where the API server is away: that is not the key's, and passes."""

TURN = 0.002
"""Seconds of work in one turn of the event loop after which it looks for news: a look at thousands awaits nothing."""

Work = Callable[[str], Awaitable[None]]


class Queue:
    """A schedule with workers; whoever adds a key wakes one of them."""

    def __init__(
        self,
        work: Work,
        *,
        schedule: Schedule | None = None,
        clock: Callable[[], float] = time.monotonic,
        rng: random.Random | None = None,
    ) -> None:
        self._work, self._clock = work, clock
        self._schedule = schedule or Schedule()
        self._rng = rng or random.Random()
        self._sleepers: dict[asyncio.Future[None], float] = {}
        """What wakes each worker that sleeps, and when it wakes by itself."""
        self._open = True
        self._turn: float | None = None
        """When work began in the present turn of the event loop."""
        self._busy = 0
        self._idle = asyncio.Event()
        self._idle.set()

    def __len__(self) -> int:
        """Return how many keys are ready and not worked on."""
        return len(self._schedule)

    def add(self, key: str, priority: Priority = Priority.CHANGE) -> None:
        """Have a key worked on as soon as a worker is free."""
        self._schedule.add(key, priority)
        self._wake_one()

    def add_after(self, key: str, seconds: float) -> None:
        """Have a key worked on in so many seconds, or sooner if something changes."""
        self._schedule.add_at(key, self._clock() + max(0.0, seconds))
        self._mind_delays()

    def forget(self, key: str) -> None:
        """Drop a key that is gone."""
        self._schedule.forget(key)

    async def run(self) -> None:
        """Be one worker, until the queue is closed."""
        while self._open:
            if self._spent():
                await asyncio.sleep(0)
                continue
            key = self._schedule.take(self._clock())
            if key is None:
                await self._sleep()
                continue
            self._begin()
            if len(self._schedule):
                self._wake_one()
            self._mind_delays()
            await self._one(key)
            await asyncio.sleep(0)  # work that awaits nothing must not keep the loop to itself

    async def close(self, timeout: float) -> None:
        """Take no more keys and wait for those in work, at most `timeout` seconds."""
        self._open = False
        for waiter in self._sleepers:
            if not waiter.done():
                waiter.set_result(None)
        try:
            async with asyncio.timeout(timeout):
                await self._idle.wait()
        except TimeoutError:
            log.warning("work cut off at the end", extra={"keys": self._busy})

    def _spent(self) -> bool:
        """Tell whether so much was worked in this turn of the event loop that whoever calls is to be heard first."""
        return self._turn is not None and self._clock() - self._turn >= TURN

    def _begin(self) -> None:
        if self._turn is None:
            self._turn = self._clock()
            asyncio.get_running_loop().call_soon(self._next_turn)

    def _next_turn(self) -> None:
        self._turn = None

    async def _one(self, key: str) -> None:
        self._busy += 1
        self._idle.clear()
        try:
            await self._work(key)
            self._schedule.succeeded(key)
        except NotLeading:
            # The lease was not renewed in time. If it is taken up again, nothing must be forgotten.
            log.info("not leading", extra={"key": key})
            self.add_after(key, FENCED)
        except KubeError as error:
            longest = AWAY_LONGEST if isinstance(error, AWAY) else math.inf
            self._retry(key, f"{type(error).__name__}: {error}", longest)
        except Exception:
            # A bug with one endpoint must not stop the others.
            log.exception("reconcile failed", extra={"key": key})
            self._retry(key, "", math.inf)
        finally:
            self._schedule.done(key)
            self._busy -= 1
            if self._busy == 0:
                self._idle.set()

    def _retry(self, key: str, error: str, longest: float) -> None:
        seconds = self._schedule.failed(key, self._clock(), share=self._rng.uniform(0.8, 1.2), longest=longest)
        if error:
            log.warning("reconcile failed", extra={"key": key, "error": error, "retry": round(seconds, 1)})
        self.add_after(key, seconds)

    async def _sleep(self) -> None:
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        due = self._schedule.next_due()
        self._sleepers[waiter] = math.inf if due is None else due
        try:
            async with asyncio.timeout(None if due is None else max(0.0, due - self._clock())):
                await waiter
        except TimeoutError:
            pass
        finally:
            del self._sleepers[waiter]

    def _mind_delays(self) -> None:
        """See that a worker that is free wakes for the key that is due next: who meant to may be busy now."""
        due = self._schedule.next_due()
        if due is None or any(at <= due and not waiter.done() for waiter, at in self._sleepers.items()):
            return
        self._wake_one()

    def _wake_one(self) -> None:
        for waiter in self._sleepers:
            if not waiter.done():
                waiter.set_result(None)
                return
