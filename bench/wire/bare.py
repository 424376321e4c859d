"""A relay that does nothing but relay: the floor of Python on this wire, which says what bounds the activator.

    python -m bench.wire.bare ADDRESS BACKEND_PORT

uvloop and httptools, as the activator has them: each request and each answer is parsed and framed anew, connections
to the backend are kept. No caller is checked, nothing is held, counted or written, and nothing is guarded against.
It prints its port and serves until SIGTERM.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from typing import Any, ClassVar

import httptools
import uvloop

HOP_BY_HOP = (b"connection", b"keep-alive", b"transfer-encoding", b"te", b"upgrade", b"content-length")


class Half(asyncio.Protocol):
    """One side of the relay: what is parsed goes to `other` once it is whole, or as it comes where it has no length."""

    make: Any = httptools.HttpRequestParser

    def __init__(self) -> None:
        self.headers: dict[bytes, bytes] = {}
        # A method of C's, so that no header costs a call of Python's.
        self.on_header = self.headers.__setitem__
        self.parts: list[bytes] = []
        self.on_body = self.parts.append
        self.parser: Any = self.make(self)
        self.chunked = False
        self.other: Any = None

    def connection_made(self, transport: Any) -> None:
        """Keep the connection."""
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        """Parse what arrived."""
        self.parser.feed_data(data)
        if self.chunked and self.parts:
            self.flush()

    def first_line(self) -> bytes:
        """Return the first line of what is passed on."""
        raise NotImplementedError

    def head(self, framing: bytes) -> bytes:
        """Return the head as it is passed on."""
        lines = [b"%b: %b\r\n" % each for each in self.headers.items() if each[0].lower() not in HOP_BY_HOP]
        return b"%b%b%b\r\n\r\n" % (self.first_line(), b"".join(lines), framing)

    def flush(self) -> None:
        """Pass on what came of a body without a length."""
        data = b"".join(self.parts)
        self.parts.clear()
        self.other.transport.write(b"%x\r\n%b\r\n" % (len(data), data))

    def on_message_complete(self) -> None:
        """Pass on the rest, or all of it."""
        if self.chunked:
            if self.parts:
                self.flush()
            self.other.transport.write(b"0\r\n\r\n")
        else:
            body = b"".join(self.parts)
            self.parts.clear()
            self.other.transport.write(self.head(b"content-length: %d" % len(body)) + body)
        self.headers.clear()
        self.chunked = False
        self.passed()

    def passed(self) -> None:
        """Note that all is passed on."""


class Client(Half):
    """A client's connection."""

    address, port = "127.0.0.1", 0
    idle: ClassVar[list[Replica]] = []
    connecting: asyncio.Task[None] | None = None

    def on_url(self, target: bytes) -> None:
        """Take the target."""
        self.target = target

    def first_line(self) -> bytes:
        """Return the request line."""
        return b"%b %b HTTP/1.1\r\n" % (self.parser.get_method(), self.target)

    def on_message_complete(self) -> None:
        """Pass the request on, over a connection that is idle or a new one."""
        if self.idle:
            self.use(self.idle.pop())
        else:
            self.connecting = asyncio.get_running_loop().create_task(self.connect())

    async def connect(self) -> None:
        """Pass the request on over a new connection."""
        _, made = await asyncio.get_running_loop().create_connection(Replica, self.address, self.port)
        self.use(made)

    def use(self, replica: Replica) -> None:
        """Pass the request on."""
        self.other, replica.other = replica, self
        super().on_message_complete()

    def connection_lost(self, error: Exception | None) -> None:
        """Drop the answer, and where it comes from."""
        if self.other is not None:
            self.other.transport.abort()


class Replica(Half):
    """A connection to the backend."""

    make = httptools.HttpResponseParser

    def first_line(self) -> bytes:
        """Return the status line."""
        return b"HTTP/1.1 %d OK\r\n" % self.parser.get_status_code()

    def on_headers_complete(self) -> None:
        """Begin an answer whose length is not known."""
        if b"Transfer-Encoding" in self.headers or b"transfer-encoding" in self.headers:
            self.chunked = True
            self.other.transport.write(self.head(b"transfer-encoding: chunked"))

    def passed(self) -> None:
        """Be there for the next request."""
        self.other.other = None
        Client.idle.append(self)


async def main(address: str, backend: int) -> None:
    """Serve."""
    loop, stopping = asyncio.get_running_loop(), asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stopping.set)
    Client.address, Client.port = address, backend
    server = await loop.create_server(Client, "127.0.0.1", 0, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    await stopping.wait()


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], int(sys.argv[2])))
