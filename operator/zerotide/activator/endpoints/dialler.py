"""Find out when a pod can serve: connect as soon as it has an address, then ask until it says yes.

Waiting for the kubelet's probe and for its report would cost a second or more of every wake. Where a token is to prove
that a pod can serve, it is asked for one here for the same reason.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from zerotide.activator.failures import UpstreamFault
from zerotide.activator.wire import Headers, Pool, render_request
from zerotide.api.generation import Question, generated

SHORTEST_PAUSE = 0.004
LONGEST_PAUSE = 0.5
PAUSE_FRACTION = 0.02
"""Of the time so far: that costs one percent of a start on average, and 115 attempts for every factor of ten."""
CONNECT_TIME = 0.25
"""Short, since a packet to an address that is not there yet is sent again only after a second."""
ANSWER_TIME = 10.0
TOKEN_TIME = 60.0
"""The first token may compile what later ones use."""
TOKEN_PAUSE = 1.0
"""Between two tries: an engine that gives none had work with the first."""


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

    def trailers(self, trailers: Headers) -> None:
        """Nothing in them is asked for."""

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
    return await _ask(pool, "GET", path, host, b"", timeout)


async def gives_token(pool: Pool, question: Question, host: str, timeout: float) -> bool:
    """Tell whether a replica generates a token.

    Raises UpstreamFault, or TimeoutError.
    """
    answer = await _ask(pool, "POST", question.path, host, question.body.encode(), timeout)
    return 200 <= answer.status < 300 and generated(answer.body)


async def _ask(pool: Pool, method: str, path: str, host: str, body: bytes, timeout: float) -> Answer:
    answer = Answer()
    headers = [(b"host", host.encode()), (b"user-agent", b"zerotide-activator"), (b"accept", b"*/*")]
    if body:
        headers.append((b"content-type", b"application/json"))
    connection = None
    try:
        async with asyncio.timeout(timeout):
            connection = await pool.send(render_request(method, path, headers, body), answer)
            await answer.done
    except (TimeoutError, asyncio.CancelledError):
        if connection is not None:
            connection.abort()
        raise
    return answer


def pause_after(elapsed: float) -> float:
    """Return how many seconds to wait before the next attempt, `elapsed` seconds after the first one."""
    return min(max(elapsed * PAUSE_FRACTION, SHORTEST_PAUSE), LONGEST_PAUSE)


async def dial(
    pool: Pool, path: str, host: str, connected: Callable[[], None], question: Question | None = None
) -> None:
    """Return once the replica answered `path` with a 2xx status, and gave a token where it is asked for one.

    Its connection is then in the pool. `connected` is called at each new connection. Ends by cancellation, since a pod
    that starts may take any time.
    """
    loop = asyncio.get_running_loop()
    began = loop.time()
    while True:
        least = 0.0
        try:
            if await pool.warm(CONNECT_TIME):
                connected()
            answer = await get(pool, path, host, ANSWER_TIME)
            if 200 <= answer.status < 300:
                least = TOKEN_PAUSE
                if question is None or await gives_token(pool, question, host, TOKEN_TIME):
                    return
        except (UpstreamFault, TimeoutError):
            pass
        await asyncio.sleep(max(least, pause_after(loop.time() - began)))
