"""The connections of HTTP/2 to one replica: calls share one for as long as it takes more, also while it is made."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import NamedTuple

from zerotide.activator.failures import ConnectFailed
from zerotide.activator.wire.connecting import connect
from zerotide.activator.wire.h2.line import Body, Call, Line
from zerotide.activator.wire.limits import Limits
from zerotide.activator.wire.message import Headers
from zerotide.activator.wire.upstream import Sink

IDLE_TIME = 60.0
MOST_LINES = 256
"""Connections to one address; where all are full, calls wait for others to end."""
SETTINGS_TIME = 10.0
"""Seconds in which a replica must send its settings: it has accepted the connection, but may be busy."""


class Waiting(NamedTuple):
    """A call for which no connection has room yet."""

    promise: asyncio.Future[Line]
    least: int
    """The number of the oldest connection that it may use."""


class Lines:
    """Connections to one address.

    One is made at a time, when all others are full, and the next one only when its replica has said how many calls it
    takes: so their number follows from how many calls there are, whatever comes at once. Each one that is made is used
    by one call at least, or fails one, so a replica that closes them all is not dialled for ever.
    """

    def __init__(self, host: str, port: int, limits: Limits) -> None:
        self.host, self.port = host, port
        self._limits = limits
        self._open: list[Line] = []
        self._made = 0
        self._making: asyncio.Task[None] | None = None
        self._waiting: deque[Waiting] = deque()
        self._closed = False

    async def send(self, headers: Headers, body: Body, sink: Sink, *, fresh: bool = False) -> Call:
        """Begin a call, on a connection that is made from now on if `fresh`; the sink hears of its answer.

        Raises ConnectFailed.
        """
        least = self._made + 1 if fresh else 0
        line = self._with_room(least) if not self._waiting else None
        if line is None:
            line = await self._promised(least)
        call = line.call(headers, body, sink)
        if self._closed:
            self._go_on()
        return call

    async def warm(self, timeout: float) -> bool:
        """Have one connection at least; tell whether it had to be made.

        Raises ConnectFailed.
        """
        if any(line.open for line in self._open):
            return False
        await self._connect(timeout)
        self._go_on()
        return True

    def close(self) -> None:
        """Begin no more calls than those that wait; those that are going on end as they would."""
        self._closed = True
        self._go_on()

    def trim(self) -> None:
        """Close connections that have been idle for a minute."""
        horizon = asyncio.get_running_loop().time() - IDLE_TIME
        keep = [line for line in self._open if line.open and (line.calls or line.idle_since > horizon)]
        gone, self._open = [line for line in self._open if line not in keep], keep
        for line in gone:
            line.retire()

    async def _promised(self, least: int) -> Line:
        """Return a connection once one has room. Raises ConnectFailed."""
        promise: asyncio.Future[Line] = asyncio.get_running_loop().create_future()
        self._waiting.append(Waiting(promise, least))
        self._go_on()
        try:
            line = await promise
        except asyncio.CancelledError:
            if promise.done() and not promise.cancelled() and promise.exception() is None:
                promise.result().promised -= 1
                self._go_on()
            raise
        line.promised -= 1
        if not line.open:
            self._go_on()
            raise ConnectFailed(f"the connection to {self.host}:{self.port} ended before the call began")
        return line

    def _with_room(self, least: int) -> Line | None:
        return next((line for line in self._open if line.number >= least and line.room), None)

    def _go_on(self) -> None:
        """Give the calls that wait what room there is, in order; make a connection where that is not enough."""
        while self._waiting:
            promise, least = self._waiting[0]
            if not promise.done():
                line = self._with_room(least)
                if line is None:
                    if self._must_make(least):
                        self._making = asyncio.get_running_loop().create_task(self._make())
                    return
                line.promised += 1
                promise.set_result(line)
            self._waiting.popleft()
        if self._closed and self._making is None:
            gone, self._open = self._open, [line for line in self._open if line.promised]
            for line in gone:
                if not line.promised:
                    line.retire()

    def _must_make(self, least: int) -> bool:
        """Tell whether another connection is needed: not while one may get room, or takes no call at all."""
        alive = [line for line in self._open if line.open]
        usable = [line for line in alive if line.number >= least]
        return self._making is None and len(alive) < MOST_LINES and all(line.settled and line.calls for line in usable)

    async def _make(self) -> None:
        """Make a connection for those who wait."""
        fault = f"the connection to {self.host}:{self.port} was closed at once"
        line = None
        try:
            line = await self._connect(self._limits.connect_time)
        except ConnectFailed as error:
            fault = str(error)
        self._making = None
        if line is None or not line.open:
            self._fail(fault)
        self._go_on()

    async def _connect(self, timeout: float) -> Line:
        line = await connect(lambda: Line(self._limits, self._go_on), self.host, self.port, timeout)
        loop = asyncio.get_running_loop()
        line.idle_since = loop.time()
        self._made += 1
        line.number = self._made
        self._open = [*(known for known in self._open if known.open), line]
        loop.call_later(SETTINGS_TIME, self._expect_settings, line)
        return line

    def _expect_settings(self, line: Line) -> None:
        """Wait no longer for a replica that does not say how many calls it takes."""
        if not line.settled and line.open:
            self._fail(f"{self.host}:{self.port} sent no SETTINGS within {SETTINGS_TIME:g} s")
            line.retire()

    def _fail(self, fault: str) -> None:
        waiting, self._waiting = self._waiting, deque()
        for promise, _ in waiting:
            if not promise.done():
                promise.set_exception(ConnectFailed(fault))
