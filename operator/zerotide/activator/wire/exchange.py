"""One request and its answer, as the rest of the activator sees them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

from zerotide.activator.failures import BodyTooLarge, BuffersFull, PeerFault
from zerotide.activator.wire.door import Peer
from zerotide.activator.wire.message import CONTINUE, LAST_CHUNK, Headers, Request, render_head, render_last_chunk


class Flow(Protocol):
    """The source of an answer, which can be made to wait for a slow client."""

    def pause(self) -> None:
        """Stop reading."""

    def resume(self) -> None:
        """Read again."""


class Tunnel(Flow, Protocol):
    """The client's end of a connection that changed its protocol."""

    def close(self) -> None:
        """Pass nothing on any more."""


class Watcher(Protocol):
    """Whoever answers a request without a task."""

    def gone(self) -> None:
        """Stop: the client closed the connection."""

    def overruled(self, fault: PeerFault) -> None:
        """Stop, and answer with the fault."""


class Carrier(Protocol):
    """The connection under an exchange."""

    def send(self, data: bytes) -> None:
        """Write bytes to the client."""

    def body_wanted(self, exchange: Exchange) -> None:
        """Read on: somebody waits for the body."""

    def body_progressed(self, size: int) -> None:
        """Note that `size` bytes of the awaited body arrived."""

    def hold_unread(self) -> None:
        """Stop reading: nobody has asked for the body yet."""

    def noted(self, fault: PeerFault) -> None:
        """Count what went wrong."""

    def reserve(self, size: int) -> bool:
        """Take memory for a body; False where there is none."""

    def tunnel(self, receiver: Callable[[bytes], None]) -> Tunnel | None:
        """Pass on as it is what the client sends from now on; return what makes the client wait."""

    def must_close(self) -> bool:
        """Tell whether the connection ends after this answer."""

    def work(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Go on with the current request by a task."""

    def writable(self) -> bool:
        """Tell whether the client reads fast enough."""

    def finished(self, exchange: Exchange) -> None:
        """Go on with the next request, or close."""

    def cut(self) -> None:
        """Send what is written, then close in a way that the client can tell from a complete answer."""


class Exchange:
    """A request, its body on demand, and the answer.

    Once the client is gone, the handler's task is cancelled or its watcher told; writes after that go nowhere.
    """

    __slots__ = (
        "_announced",
        "_carrier",
        "_chunked",
        "_chunks",
        "_complete",
        "_fault",
        "_limit",
        "_received",
        "_reserved",
        "_waiter",
        "ended",
        "flow",
        "overruled",
        "peer",
        "request",
        "started",
        "watcher",
    )

    def __init__(self, request: Request, peer: Peer, carrier: Carrier, unread: int) -> None:
        self.request = request
        self.peer = peer
        self.watcher: Watcher | None = None
        """Set by whoever answers without a task."""
        self.overruled: PeerFault | None = None
        """Why the handler's task is cancelled although the client is there; it answers with this."""
        self.flow: Flow | None = None
        """Paused while the client does not read; set by whoever writes a long answer."""
        self.started = False
        self.ended = False
        self._carrier: Carrier | None = carrier
        self._chunked = False
        self._chunks: list[bytes] = []
        self._received = 0
        self._announced = request.length or 0
        self._reserved = 0
        self._limit = -unread
        self._complete = not request.has_body
        self._fault: PeerFault | None = None
        self._waiter: asyncio.Future[None] | None = None

    # The handler's side

    @property
    def gone(self) -> bool:
        """Tell whether the client closed the connection."""
        return self._carrier is None

    async def read_body(self, limit: int) -> bytes:
        """Return the whole body, asking for it where the client waits for that.

        Raises BodyTooLarge beyond `limit` bytes, BodyStalled, BuffersFull or MalformedRequest.
        """
        expected = self._received if self._complete else max(self._announced, self._received)
        if self._fault is None and expected > limit:
            self._outgrown(limit)
        self._limit = limit
        if not self._complete and self._fault is None and self._carrier is not None:
            if self.request.expects_continue and not self._received:
                self._carrier.send(CONTINUE)
            self._waiter = asyncio.get_running_loop().create_future()
            self._carrier.body_wanted(self)
            await self._waiter
        if self._fault is not None:
            raise self._fault
        body = self._joined()
        self._chunks = []
        return body

    def whole_body(self) -> bytes | None:
        """Return the body where all of it is here and in order, without taking it away."""
        if not self._complete or self._fault is not None:
            return None
        return self._chunks[0] if len(self._chunks) == 1 else self._joined()

    def go_on_with(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Answer by a task after all, for a client that is not gone."""
        assert self._carrier is not None, "the client is there"
        return self._carrier.work(work)

    def _joined(self) -> bytes:
        if len(self._chunks) > 1:
            self._chunks = [b"".join(self._chunks)]
        return self._chunks[0] if self._chunks else b""

    def start(self, status: int, headers: Headers, length: int | None = None) -> None:
        """Send the head of the answer; a body of unknown length (None) is sent in chunks."""
        self.started = True
        if self._carrier is None:
            return
        bodiless = self.request.method == "HEAD" or status in (101, 204, 304)
        self._chunked = length is None and not bodiless
        close = status != 101 and (self._carrier.must_close() or not self._complete)
        self._carrier.send(render_head(status, headers, length=length, bodiless=bodiless, close=close))

    def write(self, data: bytes) -> None:
        """Send a piece of the body."""
        if self._carrier is None or not data:
            return
        if self._chunked:
            self._carrier.send(b"%x\r\n%b\r\n" % (len(data), data))
        elif self.request.method != "HEAD":
            self._carrier.send(data)
        if self.flow is not None and not self._carrier.writable():
            self.flow.pause()

    def end(self, trailers: Headers | None = None) -> None:
        """End the answer as complete; trailers can follow a body in chunks only."""
        if self.ended:
            return
        self.ended = True
        if self._carrier is not None:
            if self._chunked:
                self._carrier.send(render_last_chunk(trailers) if trailers else LAST_CHUNK)
            self._carrier.finished(self)

    def send(self, status: int, headers: Headers, body: bytes = b"") -> None:
        """Send a whole answer."""
        self.start(status, headers, len(body))
        self.write(body)
        self.end()

    def send_rendered(self, status_and_headers: bytes, body: bytes) -> None:
        """Send a whole answer whose head is rendered already, its length and its end aside; not for HEAD."""
        self.started = self.ended = True
        carrier = self._carrier
        if carrier is not None:
            last = b"connection: close\r\n\r\n" if carrier.must_close() or not self._complete else b"\r\n"
            carrier.send(b"%bcontent-length: %d\r\n%b%b" % (status_and_headers, len(body), last, body))
            carrier.finished(self)

    def tunnel(self, receiver: Callable[[bytes], None]) -> Tunnel | None:
        """Pass on as it is what the client sends after an upgrade; return what makes it wait, None if it is gone."""
        return self._carrier.tunnel(receiver) if self._carrier is not None else None

    def cut(self) -> None:
        """End the answer as incomplete: what was written is sent, then the connection is closed."""
        if self.ended:
            return
        self.ended = True
        if self._carrier is not None:
            self._carrier.cut()

    # The connection's side

    @property
    def complete(self) -> bool:
        """Tell whether the whole body arrived."""
        return self._complete

    def feed(self, data: bytes) -> None:
        """Take a piece of the body."""
        if self._fault is not None or self.ended or self._carrier is None:
            return
        if not self._carrier.reserve(len(data)):
            self._crowded_out()
            return
        self._received += len(data)
        self._reserved += len(data)
        self._chunks.append(data)
        if self._limit < 0:
            if self._received > -self._limit:
                self._carrier.hold_unread()
        elif self._received > self._limit:
            self._outgrown(self._limit)
        else:
            self._carrier.body_progressed(len(data))

    def take_whole(self, body: bytes) -> None:
        """Take a body that came with its head, and all of it."""
        self._complete = True
        if body and self._carrier is not None:
            size = self._received = len(body)
            if self._carrier.reserve(size):
                self._reserved, self._chunks = size, [body]
            else:
                self._crowded_out()

    def announce(self, size: int) -> None:
        """Note how large the body will be at least."""
        self._announced = size
        if 0 <= self._limit < size and self._fault is None and not self.ended:
            self._outgrown(self._limit)

    def finish_body(self) -> None:
        """Note that the body is complete."""
        self._complete = True
        self._wake()

    def fail(self, fault: PeerFault) -> None:
        """Note that the body will never be complete."""
        self._fault = fault
        self._chunks = []
        if self._carrier is not None:
            self._carrier.noted(fault)
        self._wake()

    def _outgrown(self, limit: int) -> None:
        self.fail(BodyTooLarge(f"the body is larger than {limit} bytes"))

    def _crowded_out(self) -> None:
        self.fail(BuffersFull("too many request bodies are in memory: try again"))

    def surrender(self) -> int:
        """Return the bytes of memory that were taken, and take them no longer."""
        reserved, self._reserved = self._reserved, 0
        return reserved

    def detach(self) -> None:
        """Note that the client is gone."""
        self._carrier = None
        self.flow = None
        watcher, self.watcher = self.watcher, None
        if watcher is not None:
            watcher.gone()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
