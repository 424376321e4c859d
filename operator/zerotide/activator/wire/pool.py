"""The connections to one replica: made on demand, kept while they are good."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from zerotide.activator.wire.connecting import connect
from zerotide.activator.wire.limits import Limits
from zerotide.activator.wire.memo import Memo
from zerotide.activator.wire.upstream import ResponseHead, Sink, UpstreamConnection

IDLE_TIME = 60.0
MAX_IDLE = 256
MOST_DIALLING = 64
"""Connections that are made at once: more than a replica can queue are dropped, and cost a second or the request."""


class Pool:
    """Connections to one address; the newest idle one is used first."""

    def __init__(
        self, host: str, port: int, limits: Limits | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.host, self.port = host, port
        self._limits = limits or Limits()
        self._clock = clock
        self._idle: list[UpstreamConnection] = []
        self._heads: Memo[ResponseHead] = Memo()
        self._dialling = asyncio.Semaphore(MOST_DIALLING)
        self._closed = False

    async def send(
        self, request: tuple[bytes, bytes], sink: Sink, *, fresh: bool = False, timeout: float | None = None
    ) -> UpstreamConnection:
        """Send a request over an idle connection, or a new one (`fresh`: always).

        Raises ConnectFailed; whatever happens later, the sink hears of.
        """
        connection = None if fresh else self.take()
        if connection is None:
            async with self._dialling:
                # By the time it is their turn, another request may be over with its connection.
                connection = (None if fresh else self.take()) or await self.connect(timeout)
        connection.send(request, sink)
        return connection

    async def warm(self, timeout: float) -> bool:
        """Have one idle connection at least; tell whether it had to be made.

        Raises ConnectFailed.
        """
        if any(connection.open for connection in self._idle):
            return False
        self._give_back(await self.connect(timeout))
        return True

    def take(self) -> UpstreamConnection | None:
        """Return an idle connection, None where there is none."""
        while self._idle:
            connection = self._idle.pop()
            if connection.open:
                return connection
        return None

    async def connect(self, timeout: float | None = None) -> UpstreamConnection:
        """Return a new connection.

        Raises ConnectFailed.
        """
        return await connect(
            lambda: UpstreamConnection(self._limits, self._give_back, self._heads),
            self.host,
            self.port,
            timeout or self._limits.connect_time,
        )

    def close(self) -> None:
        """Close idle connections, and those that are in use once they are idle."""
        self._closed = True
        idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def trim(self) -> None:
        """Close connections that have been idle for a minute."""
        horizon = self._clock() - IDLE_TIME
        keep = [connection for connection in self._idle if connection.open and connection.idle_since > horizon]
        for connection in set(self._idle) - set(keep):
            connection.close()
        self._idle = keep

    def _give_back(self, connection: UpstreamConnection) -> None:
        if self._closed or len(self._idle) >= MAX_IDLE:
            connection.close()
            return
        connection.idle_since = self._clock()
        self._idle.append(connection)
