"""Find out when a pod can serve: connect as soon as it has an address, then ask until it says yes.

Waiting for the kubelet's probe and for its report would cost a second or more of every wake.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from zerotide.activator.failures import UpstreamFault
from zerotide.activator.wire import Headers, Pool, render_request

FIRST_PAUSE = 0.005
LONGEST_PAUSE = 0.05
LATE_FRACTION = 0.005
"""Long starts are asked less often: a pause of half a percent of the time so far costs as much at most."""
LATEST_PAUSE = 0.5
CONNECT_TIME = 0.25
"""Short, since a packet to an address that is not there yet is sent again only after a second."""
ANSWER_TIME = 10.0


class Answer:
    """A small whole answer, for probes and for what pods tell of themselves."""

    def __init__(self, limit: int = 65536) -> None:
        self.status = 0
        self.body = b""
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._limit = limit

    def head(self, status: int, headers: Headers, length: int | None) -> None:
        """Take the status."""
        self.status = status

    def data(self, data: bytes) -> None:
        """Keep the beginning of the body."""
        self.body += data[: self._limit - len(self.body)]

    def end(self) -> None:
        """Wake whoever waits."""
        if not self.done.done():
            self.done.set_result(None)

    def lost(self, fault: UpstreamFault) -> None:
        """Fail whoever waits."""
        if not self.done.done():
            self.done.set_exception(fault)


async def get(pool: Pool, path: str, host: str, timeout: float) -> Answer:
    """Ask a replica with GET.

    Raises UpstreamFault, or TimeoutError.
    """
    answer = Answer()
    headers = [(b"host", host.encode()), (b"user-agent", b"zerotide-activator"), (b"accept", b"*/*")]
    connection = None
    try:
        async with asyncio.timeout(timeout):
            connection = await pool.send(render_request("GET", path, headers, b""), answer)
            await answer.done
    except (TimeoutError, asyncio.CancelledError):
        if connection is not None:
            connection.abort()
        raise
    return answer


async def dial(pool: Pool, path: str, host: str, connected: Callable[[], None]) -> None:
    """Return once the replica answered `path` with a 2xx status; its connection is then in the pool.

    `connected` is called at each new connection. Ends by cancellation, since a pod that starts may take any time.
    """
    loop = asyncio.get_running_loop()
    began, pause = loop.time(), FIRST_PAUSE
    while True:
        try:
            if await pool.warm(CONNECT_TIME):
                connected()
            answer = await get(pool, path, host, ANSWER_TIME)
            if 200 <= answer.status < 300:
                return
        except (UpstreamFault, TimeoutError):
            pass
        await asyncio.sleep(pause)
        late = min((loop.time() - began) * LATE_FRACTION, LATEST_PAUSE)
        pause = max(min(pause * 1.5, LONGEST_PAUSE), late)
