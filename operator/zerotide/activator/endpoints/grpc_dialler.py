"""Find out when a replica that speaks gRPC can serve: ask its health service, as the kubelet does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from zerotide.activator.endpoints.dialler import ANSWER_TIME, CONNECT_TIME, Answer, pause_after
from zerotide.activator.failures import UpstreamFault
from zerotide.activator.wire.h2.line import Call
from zerotide.activator.wire.h2.lines import Lines

HEALTH_PATH = b"/grpc.health.v1.Health/Check"
_NOTHING = bytes(5)
"""An empty message: the health of the server as a whole."""
_SERVING = b"\x00\x00\x00\x00\x02\x08\x01"


class Whole:
    """A body that is there from the start."""

    def __init__(self, data: bytes) -> None:
        self._left = data

    def take(self, most: int) -> bytes:
        """Return the next piece."""
        piece, self._left = self._left[:most], self._left[most:]
        return piece

    def ended(self) -> bool:
        """Tell whether all of it was taken."""
        return not self._left

    def watch(self, call: Call | None) -> None:
        """There will be no more."""


async def is_serving(lines: Lines, host: str, timeout: float) -> bool:
    """Tell whether a replica's health service says so.

    Raises UpstreamFault, or TimeoutError.
    """
    answer = Answer()
    headers = [
        (b":method", b"POST"),
        (b":scheme", b"http"),
        (b":path", HEALTH_PATH),
        (b":authority", host.encode()),
        (b"content-type", b"application/grpc"),
        (b"te", b"trailers"),
        (b"user-agent", b"zerotide-activator"),
    ]
    call = None
    try:
        async with asyncio.timeout(timeout):
            call = await lines.send(headers, Whole(_NOTHING), answer)
            await answer.done
    except (TimeoutError, asyncio.CancelledError):
        if call is not None:
            call.abort()
        raise
    return answer.status == 200 and answer.body == _SERVING


async def dial_grpc(lines: Lines, host: str, connected: Callable[[], None]) -> None:
    """Return once the replica serves; `connected` is called at each new connection. Ends by cancellation."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    while True:
        try:
            if await lines.warm(CONNECT_TIME):
                connected()
            if await is_serving(lines, host, ANSWER_TIME):
                return
        except (UpstreamFault, TimeoutError):
            pass
        await asyncio.sleep(pause_after(loop.time() - began))
