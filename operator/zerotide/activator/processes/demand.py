"""The demand of several processes as that of one activator.

The sum is told only while every process tells its own: without one of them nothing may fall asleep, so the operator's
stream ends with it, and a new one is refused until it is back. The start of the activator is that of its youngest
process, which remembers no activity from before.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AsyncExitStack

import aiohttp

from zerotide.activator.failures import ChildSilent
from zerotide.activator.processes.child import Child
from zerotide.api.demand import Delta, Demand, Message, Report, Snapshot, Wake, decode

PATIENCE = 3.0
"""Seconds without a line from a process after which it counts as silent; reports come twice a second."""


class Merged:
    """What the processes said, and what it comes to; pure."""

    def __init__(self, activator: str) -> None:
        self._activator = activator
        self._demands: dict[int, dict[str, Demand]] = {}
        self._reports: dict[int, int] = {}
        self._started_us = 0
        self._told_us = 0

    def snapshot(self, number: int, snapshot: Snapshot) -> None:
        """Take in how a process's stream begins."""
        self._demands[number] = {demand.endpoint: demand for demand in snapshot.demands}
        self._reports[number] = snapshot.at_us
        self._started_us = max(self._started_us, snapshot.started_at_us)

    def whole(self) -> Snapshot:
        """Return how the stream of all begins."""
        self._told_us = min(self._reports.values())
        endpoints = dict.fromkeys(endpoint for demands in self._demands.values() for endpoint in demands)
        sums = (self._sum(endpoint) for endpoint in endpoints)
        return Snapshot(
            activator=self._activator,
            started_at_us=self._started_us,
            at_us=self._told_us,
            demands=tuple(demand for demand in sums if demand is not None),
        )

    def take(self, number: int, message: Message, now_us: int) -> list[Message]:
        """Take in a line of a process and return what all of them say now."""
        match message:
            case Delta():
                self._demands[number][message.demand.endpoint] = message.demand
                return self._deltas((message.demand.endpoint,), now_us)
            case Report():
                self._reports[number] = message.at_us
                return self._report()
            case Wake():
                return [message]
        return []

    def left(self, number: int, now_us: int) -> list[Message]:
        """Take a process for idle that ended after all of its requests."""
        idle = {"held": 0, "in_flight": 0}
        demands = {name: demand.model_copy(update=idle) for name, demand in self._demands[number].items()}
        self._demands[number] = demands
        self._reports.pop(number, None)
        return [*self._deltas(tuple(demands), now_us), *self._report()]

    def _report(self) -> list[Message]:
        """Say up to when everything was told by everyone, where that moved."""
        oldest = min(self._reports.values(), default=0)
        if oldest <= self._told_us:
            return []
        self._told_us = oldest
        return [Report(at_us=oldest)]

    def _deltas(self, endpoints: tuple[str, ...], now_us: int) -> list[Message]:
        sums = (self._sum(endpoint) for endpoint in endpoints)
        return [Delta(at_us=now_us, demand=demand) for demand in sums if demand is not None]

    def _sum(self, endpoint: str) -> Demand | None:
        found = [demands[endpoint] for demands in self._demands.values() if endpoint in demands]
        if not found:
            return None
        # Of an endpoint that was deleted and made again only the newest is asked for; the past one is no more.
        newest = max(found, key=lambda demand: (demand.active, demand.last_activity_us))
        mine = [demand for demand in found if demand.uid == newest.uid]
        return Demand(
            endpoint=endpoint,
            uid=newest.uid,
            held=sum(demand.held for demand in mine),
            in_flight=sum(demand.in_flight for demand in mine),
            arrivals=sum(demand.arrivals for demand in mine),
            last_activity_us=max(demand.last_activity_us for demand in mine),
        )


class MergedStream:
    """One listener's stream over all processes."""

    def __init__(
        self, activator: str, children: list[Child], now_us: Callable[[], int], draining: Callable[[], bool]
    ) -> None:
        self._children, self._now_us, self._draining = children, now_us, draining
        self._merged = Merged(activator)
        self._open = AsyncExitStack()
        self._sources: dict[int, AsyncIterator[Message]] = {}

    async def open(self) -> None:
        """Begin with every process. Raises ChildSilent."""
        try:
            async with asyncio.timeout(PATIENCE):
                for child in self._children:
                    source = self._messages(child)
                    first = await anext(source, None)
                    if not isinstance(first, Snapshot):
                        raise ChildSilent(f"process {child.number} does not tell its demand")
                    self._sources[child.number] = source
                    self._merged.snapshot(child.number, first)
        except BaseException as error:
            await self._open.aclose()
            if isinstance(error, TimeoutError):
                raise ChildSilent("a process does not tell its demand") from error
            raise

    async def lines(self) -> AsyncGenerator[bytes, None]:
        """Yield whole lines until nobody asks for more, or a process falls silent."""
        queue: asyncio.Queue[tuple[int, Message | None]] = asyncio.Queue(4096)
        pumps = [asyncio.create_task(_pump(number, source, queue)) for number, source in self._sources.items()]
        try:
            yield self._merged.whole().encode()
            while True:
                number, message = await queue.get()
                if message is not None:
                    told = self._merged.take(number, message, self._now_us())
                elif self._draining():
                    told = self._merged.left(number, self._now_us())
                else:
                    return
                if told:
                    yield b"".join(each.encode() for each in told)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            await self._open.aclose()

    async def _messages(self, child: Child) -> AsyncGenerator[Message, None]:
        response = await self._open.enter_async_context(await child.get("/internal/demand", stream=True))
        if response.status != 200:
            raise ChildSilent(f"process {child.number} answers {response.status}")
        rest = b""
        try:
            while chunk := await response.content.readany():
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    message = decode(line) if line else None
                    if message is not None:
                        yield message
        except (aiohttp.ClientError, OSError, TimeoutError):
            return


async def _pump(number: int, source: AsyncIterator[Message], queue: asyncio.Queue[tuple[int, Message | None]]) -> None:
    async for message in source:
        await queue.put((number, message))
    await queue.put((number, None))
