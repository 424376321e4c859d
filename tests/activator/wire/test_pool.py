"""A replica's connections: whoever had one before leaves nothing on it."""

from __future__ import annotations

import asyncio

import pytest

from tests.activator.replica import Replica
from zerotide.activator.failures import UpstreamFault
from zerotide.activator.wire import Headers
from zerotide.activator.wire.pool import Pool
from zerotide.activator.wire.upstream import ResponseHead, UpstreamConnection

REQUEST = (b"GET /health HTTP/1.1\r\nhost: a\r\n\r\n", b"")


class Slow:
    """Whose client reads nothing: it makes the connection wait as soon as an answer has come."""

    def __init__(self) -> None:
        self.connection: UpstreamConnection | None = None
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def head(self, status: int, headers: Headers, length: int | None) -> None:
        """Take the head."""

    def data(self, data: bytes) -> None:
        """Take some of the body."""

    def trailers(self, trailers: Headers) -> None:
        """Take the trailers."""

    def whole(self, head: ResponseHead, body: bytes) -> None:
        """Take all of it."""
        self.end()

    def end(self) -> None:
        """Wait for the client."""
        assert self.connection is not None
        self.connection.pause()
        self.done.set_result(None)

    def lost(self, fault: UpstreamFault) -> None:
        """Fail."""
        self.done.set_exception(fault)


@pytest.mark.parametrize("quick", [False, True])
async def test_a_client_that_reads_slowly_does_not_stop_the_next_answer(replica: Replica, quick: bool) -> None:
    """Its own answer has come whole, and another request has the connection."""
    pool = Pool("127.0.0.1", replica.port)
    first = await pool.connect()
    async with asyncio.timeout(10):
        for _ in range(4):
            sink, connection = Slow(), pool.take() or first
            sink.connection = connection
            if quick:
                connection.reserve(sink)
                connection.send_quick(REQUEST[0])
            else:
                connection.send(REQUEST, sink)
            await sink.done
            assert connection is first
    pool.close()
