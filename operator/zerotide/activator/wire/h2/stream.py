"""One stream of HTTP/2: a request and its answer, as the rest of the activator sees them."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Protocol

from zerotide.activator.failures import AnswerUnread, BodyStalled, PeerFault
from zerotide.activator.wire.door import Peer
from zerotide.activator.wire.exchange import Exchange, Flow, Tunnel
from zerotide.activator.wire.limits import Limits
from zerotide.activator.wire.message import Headers, Request


class StreamCarrier(Protocol):
    """The connection under a stream."""

    def now(self) -> float:
        """Return the monotonic time in seconds."""

    def head(self, stream: Stream, headers: Headers, *, last: bool) -> None:
        """Send a block of headers; `last` ends the stream's answer."""

    def pump(self, stream: Stream) -> None:
        """Send what the client's windows allow."""

    def consumed(self, stream: Stream, size: int) -> None:
        """Let the client send `size` bytes more."""

    def reserve(self, size: int) -> bool:
        """Take memory for a body, give it back where `size` is negative; False where there is none."""

    def noted(self, fault: PeerFault) -> None:
        """Count what went wrong."""

    def give_up(self, stream: Stream, fault: PeerFault) -> None:
        """End the stream: its client does not read."""

    def overrule_stream(self, stream: Stream, fault: PeerFault) -> None:
        """End what is being worked on: the handler is cancelled, and answers with the fault."""


class Stream(Exchange):
    """A request on one stream, whose body can also be taken piece by piece, and its answer.

    Windows are opened only for what was taken, so that a body waits at its client until somebody wants it.
    """

    __slots__ = (
        "_asked",
        "_body",
        "_ended_in",
        "_limits",
        "_line",
        "_paused",
        "_progress",
        "_queue",
        "body_deadline",
        "held",
        "id",
        "on_body",
        "queued",
        "since",
        "trailers",
        "unopened",
        "write_deadline",
    )

    def __init__(self, id: int, request: Request, peer: Peer, line: StreamCarrier, limits: Limits) -> None:
        # Nothing of the base's state is used: it is HTTP/1.1's.
        self.request, self.peer, self.id = request, peer, id
        self.overruled: PeerFault | None = None
        self.flow: Flow | None = None
        self.started = self.ended = False
        self._line: StreamCarrier | None = line
        self._limits = limits
        self._complete = not request.has_body
        self._fault: PeerFault | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._body: deque[bytes] = deque()
        self._asked: int | None = None
        self._received = self._progress = 0
        self.held = 0
        """Bytes of the body that are in memory."""
        self.unopened = 0
        """Bytes of the body for which the window was not opened again."""
        self.on_body: Callable[[], None] | None = None
        """Called when more of the body, or its end, has come."""
        self.body_deadline = self.write_deadline = 0.0
        self.since = line.now()
        self._queue: deque[bytes] = deque()
        self.queued = 0
        """Bytes of the answer for which there is no window yet."""
        self.trailers: Headers | None = None
        self._ended_in = ""
        self._paused = False

    # The handler's side

    @property
    def gone(self) -> bool:
        """Tell whether the client gave the stream up."""
        return self._line is None

    @property
    def complete(self) -> bool:
        """Tell whether the whole body arrived."""
        return self._complete

    @property
    def fault(self) -> PeerFault | None:
        """Return why the body will never be complete, None while it may be."""
        return self._fault

    async def read_body(self, limit: int) -> bytes:
        """Return the whole body, opening the window as it comes.

        Raises BodyTooLarge beyond `limit` bytes, BodyStalled, BuffersFull or MalformedRequest.
        """
        if self._fault is None and max(self.request.length or 0, self._received) > limit:
            self._outgrown(limit)
        self._asked = limit
        if self._line is not None and self.unopened:
            self._line.consumed(self, self.unopened)
        self.unopened = 0
        if not self._complete and self._fault is None and self._line is not None:
            self._continue()
            self._waiter = asyncio.get_running_loop().create_future()
            self.body_deadline = self._line.now() + self._limits.body_time
            await self._waiter
        if self._fault is not None:
            raise self._fault
        body = b"".join(self._body)
        self._body.clear()
        return body

    @property
    def exhausted(self) -> bool:
        """Tell whether the whole body arrived, and was taken."""
        return self._complete and not self._body

    def overrule(self, fault: PeerFault) -> None:
        """End the request: its handler is cancelled, and answers with the fault."""
        if self._line is not None:
            self._line.overrule_stream(self, fault)

    def take(self, most: int) -> bytes:
        """Return what there is of the body, `most` bytes at most, and let the client send as much again."""
        if not self._body:
            self._continue()
            return b""
        piece = self._body.popleft()
        if len(piece) > most:
            self._body.appendleft(piece[most:])
            piece = piece[:most]
        self.held -= len(piece)
        self.unopened -= len(piece)
        if self._line is not None:
            self._line.reserve(-len(piece))
            self._line.consumed(self, len(piece))
        return piece

    def start(self, status: int, headers: Headers, length: int | None = None) -> None:
        """Send the head of the answer."""
        self._head(status, headers, length, last=False)

    def answer_in_head(self, status: int, headers: Headers) -> None:
        """Send an answer that is a head and nothing else."""
        self.ended = True
        self._head(status, headers, None, last=True)

    def write(self, data: bytes) -> None:
        """Send a piece of the body, or keep it until there is room for it."""
        if self._line is None or not data or self.request.method == "HEAD":
            return
        self._queue.append(data)
        self.queued += len(data)
        self._line.pump(self)
        if self.queued and self._line is not None:
            self.write_deadline = self.write_deadline or self._line.now() + self._limits.write_time
            self._paused = True
            if self.flow is not None:
                self.flow.pause()

    def end(self, trailers: Headers | None = None) -> None:
        """End the answer as complete."""
        if not self.ended:
            self._end("complete", trailers)

    def send(self, status: int, headers: Headers, body: bytes = b"") -> None:
        """Send a whole answer."""
        self.start(status, headers, len(body))
        if body and self._line is not None and self.request.method != "HEAD":
            self._queue.append(body)
            self.queued += len(body)
        self.end()

    def tunnel(self, receiver: Callable[[bytes], None]) -> Tunnel | None:
        """Return None: a stream is never anything else than a request and its answer."""
        return None

    def cut(self) -> None:
        """End the answer as incomplete: what was written is sent, then the stream is reset."""
        if not self.ended:
            self._end("cut", None)

    # The connection's side

    @property
    def is_cut(self) -> bool:
        """Tell whether the answer ends with a reset."""
        return self._ended_in == "cut"

    def pull(self, most: int) -> bytes:
        """Return the next piece of the answer, `most` bytes at most."""
        piece = self._queue.popleft()
        if len(piece) > most:
            self._queue.appendleft(piece[most:])
            piece = piece[:most]
        self.queued -= len(piece)
        if self._line is not None and self.write_deadline:
            self.write_deadline = self._line.now() + self._limits.write_time if self.queued else 0.0
        return piece

    def drained(self) -> None:
        """Let the source of the answer go on: all of it so far is sent."""
        if self._paused:
            self._paused = False
            if self.flow is not None:
                self.flow.resume()

    def take_in(self, data: bytes, size: int) -> None:
        """Take a piece of the body; `size` is what it took of the window."""
        line = self._line
        if line is None:
            return
        if self._fault is not None or self.ended:
            line.consumed(self, size)
            return
        if not line.reserve(len(data)):
            line.consumed(self, size)
            self._crowded_out()
            return
        self._received += len(data)
        self.held += len(data)
        if data:
            self._body.append(data)
        if self._asked is None:
            self.unopened += len(data)
            line.consumed(self, size - len(data))
        else:
            line.consumed(self, size)
            self._advance(len(data), line.now())
        if self.on_body is not None:
            self.on_body()

    def finish_body(self) -> None:
        """Note that the body is complete."""
        self._complete = True
        self._wake()

    def fail(self, fault: PeerFault) -> None:
        """Note that the body will never be complete."""
        self._fault = fault
        self._body.clear()
        if self._line is not None:
            self._line.noted(fault)
        self._wake()

    def expire(self, now: float) -> None:
        """Act on a deadline that has passed."""
        if self.body_deadline and now >= self.body_deadline:
            self.body_deadline = 0.0
            self.fail(BodyStalled(f"the body made no progress for {self._limits.body_time:g} s"))
        if self.write_deadline and now >= self.write_deadline and self._line is not None:
            self._line.give_up(self, AnswerUnread(f"the answer was not read for {self._limits.write_time:g} s"))

    def detach(self) -> None:
        """Note that the client is gone."""
        line, self._line = self._line, None
        self.flow = self.on_body = None
        self._queue.clear()
        self.queued = 0
        if line is not None:
            line.reserve(-self.held)

    def _head(self, status: int, headers: Headers, length: int | None, *, last: bool) -> None:
        self.started = True
        if self._line is None:
            return
        fields = [(b":status", b"%d" % status), *headers]
        if length is not None and status not in (204, 304):
            fields.append((b"content-length", b"%d" % length))
        self._line.head(self, fields, last=last)

    def _end(self, how: str, trailers: Headers | None) -> None:
        self.ended = True
        self._ended_in, self.trailers = how, trailers
        if self._line is not None:
            if self.queued:
                self.write_deadline = self.write_deadline or self._line.now() + self._limits.write_time
            self._line.pump(self)

    def _continue(self) -> None:
        if self.request.expects_continue and not self._received and self._line is not None:
            self.request.expects_continue = False
            self._line.head(self, [(b":status", b"100")], last=False)

    def _advance(self, size: int, now: float) -> None:
        assert self._asked is not None, "only a body that is asked for makes progress"
        self._progress += size
        if self._received > self._asked:
            self._outgrown(self._asked)
        elif self._progress >= self._limits.body_progress:
            self._progress = 0
            self.body_deadline = now + self._limits.body_time

    def _wake(self) -> None:
        self.body_deadline = 0.0
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
        if self.on_body is not None:
            self.on_body()
