"""The connections of HTTP/2 to one replica: calls share one for as long as it takes more."""

from __future__ import annotations

import asyncio

from zerotide.activator.wire.connecting import connect
from zerotide.activator.wire.h2.line import Body, Call, Line
from zerotide.activator.wire.limits import Limits
from zerotide.activator.wire.message import Headers
from zerotide.activator.wire.upstream import Sink

IDLE_TIME = 60.0


class Lines:
    """Connections to one address."""

    def __init__(self, host: str, port: int, limits: Limits) -> None:
        self.host, self.port = host, port
        self._limits = limits
        self._open: list[Line] = []
        self._closed = False

    async def send(self, headers: Headers, body: Body, sink: Sink, *, fresh: bool = False) -> Call:
        """Begin a call; the sink hears of its answer.

        Raises ConnectFailed.
        """
        line = None if fresh else next((line for line in self._open if line.room), None)
        if line is None:
            line = await self._connect(self._limits.connect_time)
        return line.call(headers, body, sink)

    async def warm(self, timeout: float) -> bool:
        """Have one connection at least; tell whether it had to be made.

        Raises ConnectFailed.
        """
        if any(line.open for line in self._open):
            return False
        await self._connect(timeout)
        return True

    def close(self) -> None:
        """Begin no more calls; those that are going on end as they would."""
        self._closed = True
        lines, self._open = self._open, []
        for line in lines:
            line.retire()

    def trim(self) -> None:
        """Close connections that have been idle for a minute."""
        horizon = asyncio.get_running_loop().time() - IDLE_TIME
        keep = [line for line in self._open if line.open and (line.calls or line.idle_since > horizon)]
        for line in self._open:
            if line not in keep:
                line.retire()
        self._open = keep

    async def _connect(self, timeout: float) -> Line:
        line = await connect(lambda: Line(self._limits), self.host, self.port, timeout)
        line.idle_since = asyncio.get_running_loop().time()
        self._open = [*(known for known in self._open if known.open), line]
        if self._closed:
            # Dialled before it was closed: it serves the call that it was made for.
            self._open = []
        return line
