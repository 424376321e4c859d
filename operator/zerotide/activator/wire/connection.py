"""One client connection: bytes to requests, answers in order, deadlines, and an end that the client understands."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from collections.abc import Callable, Coroutine
from enum import Enum
from typing import Any, cast

import httptools

from zerotide.activator.failures import (
    AnswerUnread,
    BodyStalled,
    HeadTimeout,
    HeadTooLarge,
    IdleTimeout,
    MalformedRequest,
    PeerFault,
    RequestTooOld,
)
from zerotide.activator.wire.chunks import ChunkSizes
from zerotide.activator.wire.door import Peer
from zerotide.activator.wire.exchange import Exchange
from zerotide.activator.wire.h2.connection import H2Connection
from zerotide.activator.wire.h2.engine import after_preface
from zerotide.activator.wire.host import Host
from zerotide.activator.wire.limits import MIB
from zerotide.activator.wire.memo import UNCUT, cut
from zerotide.activator.wire.message import Headers, Request
from zerotide.activator.wire.request_line import RequestLines
from zerotide.activator.wire.strict import read_head, without_upgrade
from zerotide.activator.wire.tunnel import ClientEnd, check_opening, opens_websocket

log = logging.getLogger(__name__)

MAX_HEADERS = 128
LINGER_BYTES = 64 * MIB
"""Of a refused request that are read and dropped: clients that write whole bodies lose the answer to a reset."""
NOBODY = Peer("")


class Phase(Enum):
    """What the connection waits for."""

    IDLE = "a request"
    HEAD = "the end of a head"
    BODY = "a body that is asked for"
    BUSY = "an answer"
    LINGER = "the client to close"


class Connection(asyncio.Protocol):
    """A client's connection; requests on it are answered one after the other."""

    __slots__ = (
        "_broken",
        "_current",
        "_early",
        "_fault",
        "_fresh",
        "_head_fed",
        "_head_size",
        "_headers",
        "_host",
        "_in_head",
        "_limits",
        "_lines",
        "_lingered",
        "_parser",
        "_peer",
        "_phase",
        "_progress",
        "_read_head",
        "_reading",
        "_receiving",
        "_since",
        "_sizes",
        "_target",
        "_task",
        "_transport",
        "_unstarted",
        "_upgrade",
        "_waiting",
        "_writable",
        "deadline",
    )

    def __init__(self, host: Host, peer: Peer | None = None) -> None:
        """`peer` is who was let in already; by default it is who the socket tells, and is let in here."""
        self._host = host
        self._limits = host.limits
        self._transport: asyncio.Transport | None = None
        self._parser: Any = None
        """Made when bytes are to be parsed, and dropped between requests: it is large, and most connections wait."""
        self._peer = peer
        self._since = 0.0
        self._phase = Phase.IDLE
        self.deadline = 0.0
        self._lines = RequestLines()
        self._sizes: ChunkSizes | None = None
        self._in_head = False
        self._head_size = self._head_fed = 0
        self._target = b""
        self._headers: Headers = []
        self._upgrade: bytes | None = None
        self._early: bytes | None = None
        self._fault: PeerFault | None = None
        self._fresh = True
        self._read_head: Request | None = None
        self._unstarted: Exchange | None = None
        self._broken = False
        self._receiving: Exchange | None = None
        self._current: Exchange | None = None
        self._task: asyncio.Task[None] | None = None
        self._waiting: list[Exchange] = []
        self._progress = self._lingered = 0
        self._reading = self._writable = True

    # Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection, or close it where there are too many."""
        self._transport = cast(asyncio.Transport, transport)
        if self._peer is None:
            self._peer = peer_of(transport)
            try:
                self._host.door.enter(self._peer.address)
            except PeerFault:
                self._transport.abort()
                return
        self._host.connections.add(self)
        self._transport.set_write_buffer_limits(high=self._limits.write_buffer)
        self.deadline = self._host.now() + self._limits.idle_time

    def connection_lost(self, error: Exception | None) -> None:
        """Tell whoever works on a request that the client is gone."""
        if self in self._host.connections:
            self._host.connections.discard(self)
            self._host.door.leave(self._peer.address if self._peer is not None else "")
        self._transport = None
        self._forget()

    def _forget(self) -> None:
        """Tell whoever works on a request that nobody waits for the answer."""
        for exchange in (self._current, self._receiving, *self._waiting):
            if exchange is not None:
                self._release(exchange)
                exchange.detach()
        self._waiting.clear()
        if self._task is not None and not self._task.done():
            self._task.cancel()
        self._broken = True
        self._parser = self._current = self._receiving = self._unstarted = self._task = None

    def eof_received(self) -> bool | None:
        """Close: a client that closed its side is taken for gone."""
        return None

    def pause_writing(self) -> None:
        """Make the source of the answer wait."""
        self._writable = False
        self.deadline = self._host.now() + self._limits.write_time
        if self._current is not None and self._current.flow is not None:
            self._current.flow.pause()

    def resume_writing(self) -> None:
        """Let the source of the answer go on."""
        self._writable = True
        if self._phase is Phase.BUSY:
            self.deadline = 0.0
        if self._current is not None and self._current.flow is not None:
            self._current.flow.resume()

    def data_received(self, data: bytes) -> None:
        """Parse what arrived."""
        if self._phase is Phase.LINGER or self._broken:
            if self._early is not None and self._phase is not Phase.LINGER:
                self._keep_early(data)
                return
            self._lingered += len(data)
            if self._lingered > LINGER_BYTES and self._transport is not None:
                self._transport.abort()
            return
        if self._phase is Phase.IDLE:
            self._receive_first(data)
        else:
            self._receive(data)

    def _receive_first(self, data: bytes) -> None:
        """Take what begins with a head: one that is known, of a request that is whole, needs no parsing."""
        key, length, body_at = cut(data) or UNCUT
        if len(data) - body_at != length:
            self._enter(Phase.HEAD, self._limits.head_time)
            self._receive(data)
            return
        request = self._host.heads.get(key)
        if request is not None:
            # As `_begin` has it, written out, for most requests come this way.
            exchange = Exchange(request, self._peer or NOBODY, self, self._limits.unread_bytes)
            exchange.take_whole(data[body_at:])
            self._fresh = False
            self._current, self._phase, self.deadline = exchange, Phase.BUSY, 0.0
            self._since = self._host.now()
            if not self._host.express(exchange):
                self._task = self.work(self._host.handle(exchange))
            return
        self._read_head = None
        self._receive(data)
        self._remember(key, length)

    def _remember(self, key: bytes, length: int) -> None:
        read = self._read_head
        if read is not None and not self._broken and read.is_plain and (read.length or 0) == length:
            self._host.heads.add(key, read)

    def _receive(self, data: bytes) -> None:
        if self._in_head:
            self._head_fed += len(data)
        self._parse(data)
        if self._in_head and self._head_fed > self._limits.head_bytes and not self._broken:
            self._refuse(HeadTooLarge(f"the request's head is larger than {self._limits.head_bytes} bytes"))
        unstarted, self._unstarted = self._unstarted, None
        if unstarted is not None and unstarted is self._current:
            self._start(unstarted)

    def _parse(self, data: bytes) -> None:
        self._lines.fed(data, in_head=self._in_head, in_body=self._receiving is not None)
        if self._parser is None:
            self._parser = httptools.HttpRequestParser(self)
        if self._sizes is not None and self._receiving is not None:
            self._receiving.announce(self._sizes.feed(data))
        try:
            self._parser.feed_data(data)
            if not self._in_head:
                self._lines.clear()
                if self._receiving is None and self._read_head is not None and self._read_head.keep_alive:
                    self._parser = None
        except httptools.HttpParserUpgrade as upgrade:
            rest = data[upgrade.args[0] :]
            if self._early is not None:
                self._keep_early(rest)
                return
            if self._upgrade is None:
                self._refuse(MalformedRequest("the protocol cannot be changed"))
                return
            # llhttp took the body for another protocol: read the request again, without the wish to change.
            head, self._upgrade = self._upgrade, None
            self._parser = httptools.HttpRequestParser(self)
            self._parse(head + rest)
        except httptools.HttpParserError as error:
            if self._fresh and self._parser.get_method() == b"PRI":
                after = after_preface(data)
                if after is not None:
                    self._hand_over(after)
                    return
            fault = self._fault or MalformedRequest(f"the request is not valid HTTP/1.1: {error}")
            self._refuse(fault)

    def _keep_early(self, data: bytes) -> None:
        """Keep what comes before an upgrade is agreed to, a little at most; reading on tells when the client leaves."""
        self._early = (self._early or b"") + data
        if len(self._early) > self._limits.unread_bytes:
            self._read(False)

    # llhttp

    def on_message_begin(self) -> None:
        """Begin a head."""
        self._in_head = True
        self._target, self._headers = b"", []
        self._head_size = self._head_fed = 0

    def on_url(self, part: bytes) -> None:
        """Take a part of the target."""
        self._target += part
        self._grow(len(part))

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header; trailers are counted and dropped."""
        self._grow(len(name) + len(value) + 4)
        if self._in_head:
            self._headers.append((name.lower(), value.strip(b" \t")))

    def on_headers_complete(self) -> None:
        """Begin an exchange, or queue it behind the one that is being answered."""
        self._in_head = False
        parser = self._parser
        method = parser.get_method().decode("latin-1")
        try:
            if parser.should_upgrade() and method != "CONNECT":
                if not opens_websocket(self._headers):
                    self._lines.check(method, self._target, None, chunked=False)
                    self._upgrade = without_upgrade(method, self._target, self._headers)
                    return
                check_opening(method, self._headers, alone=self._current is None)
                self._early = b""
            if len(self._waiting) >= self._limits.pipelined:
                raise MalformedRequest("too many requests are pipelined")
            version, keep_alive = parser.get_http_version(), parser.should_keep_alive()
            request = read_head(method, self._target, version, self._headers, keep_alive)
            self._lines.check(method, self._target, request.length, chunked=request.chunked)
            self._read_head = request
        except PeerFault as fault:
            self._fault = fault
            raise
        self._accept(request)
        self._sizes = ChunkSizes() if request.chunked else None
        if self._sizes is not None and self._receiving is not None:
            self._receiving.announce(self._sizes.feed(self._lines.behind()))
        # Whatever becomes of it, nothing that follows an upgrade is a request.
        self._broken = self._broken or self._early is not None

    def on_body(self, data: bytes) -> None:
        """Take a piece of the body."""
        if self._receiving is not None:
            self._receiving.feed(data)

    def on_message_complete(self) -> None:
        """End the request."""
        exchange, self._receiving, self._sizes = self._receiving, None, None
        if exchange is not None:
            exchange.finish_body()
            if exchange is self._current and self._phase is Phase.BODY:
                self._enter(Phase.BUSY, 0.0)

    def _grow(self, size: int) -> None:
        self._head_size += size
        if self._head_size > self._limits.head_bytes or len(self._headers) > MAX_HEADERS:
            limit = f"{self._limits.head_bytes} bytes or {MAX_HEADERS} headers"
            self._fault = HeadTooLarge(f"the request's head is larger than {limit}")
            raise self._fault

    # Requests

    def _hand_over(self, rest: bytes) -> None:
        """Go on in HTTP/2: the client began with its preface."""
        transport, self._transport, self._broken = self._transport, None, True
        if transport is not None:
            successor = H2Connection(self._host, self._peer or NOBODY, transport)
            self._host.connections.discard(self)
            self._host.connections.add(successor)
            successor.begin(rest)

    def _accept(self, request: Request) -> None:
        self._fresh = False
        exchange = Exchange(request, self._peer or NOBODY, self, self._limits.unread_bytes)
        self._receiving = exchange
        if self._current is None:
            # It starts when all that arrived with its head is taken in, which mostly is the whole of it.
            self._current = self._unstarted = exchange
            self._enter(Phase.BUSY, 0.0)
        else:
            self._waiting.append(exchange)
            self._read(False)

    def _begin(self, exchange: Exchange) -> None:
        self._current = exchange
        self._enter(Phase.BUSY, 0.0)
        self._start(exchange)

    def _start(self, exchange: Exchange) -> None:
        self._since = self._host.now()
        if not exchange.complete or not self._host.express(exchange):
            self._task = self.work(self._host.handle(exchange))

    def _handled(self, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None:
            log.error("a request's handler failed", exc_info=error)
        if task is self._task and self._current is not None:
            self._current.cut()

    def _next(self) -> None:
        if self._waiting:
            self._begin(self._waiting.pop(0))
            if self._waiting:
                return
        elif self._in_head:
            self._enter(Phase.HEAD, self._limits.head_time)
        else:
            self._enter(Phase.IDLE, self._limits.idle_time)
        self._read(True)

    def _refuse(self, fault: PeerFault) -> None:
        self._broken, self._fault = True, fault
        if self._receiving is not None and not self._receiving.ended:
            self._receiving.fail(fault)
            return
        self.noted(fault)
        if self._current is None and not self._waiting:
            status, headers, body = self._host.answer_to(fault)
            request = Request("GET", "/", [], length=None, chunked=False, keep_alive=False, expects_continue=False)
            self._current = Exchange(request, self._peer or NOBODY, self, 0)
            self._current.send(status, headers, body)

    # Carrier

    def send(self, data: bytes) -> None:
        """Write bytes to the client; uvloop sends together what is written in one turn of the loop."""
        if self._transport is not None:
            self._transport.write(data)

    def body_wanted(self, exchange: Exchange) -> None:
        """Read on, with a deadline on progress."""
        self._progress = 0
        self._enter(Phase.BODY, self._limits.body_time)
        self._read(True)

    def body_progressed(self, size: int) -> None:
        """Renew the deadline once enough has arrived."""
        self._progress += size
        if self._phase is Phase.BODY and self._progress >= self._limits.body_progress:
            self._progress = 0
            self.deadline = self._host.now() + self._limits.body_time

    def hold_unread(self) -> None:
        """Stop reading a body that nobody has asked for yet."""
        self._read(False)

    def noted(self, fault: PeerFault) -> None:
        """Count what went wrong."""
        self._host.door.faults[fault.reason] += 1

    def reserve(self, size: int) -> bool:
        """Take memory of the server's budget for bodies."""
        if self._host.buffered + size > self._limits.buffered_bytes:
            return False
        self._host.buffered += size
        return True

    def tunnel(self, receiver: Callable[[bytes], None]) -> ClientEnd | None:
        """Pass on as it is what the client sends from now on; return what makes the client wait."""
        if self._transport is None:
            return None
        end = ClientEnd(self, self._transport, receiver)
        self._transport.set_protocol(end)
        if self._early:
            receiver(self._early)
        self._read(True)
        return end

    def must_close(self) -> bool:
        """Tell whether the connection ends after this answer."""
        request = self._current.request if self._current is not None else None
        broken = self._broken and not self._waiting
        return broken or self._host.draining or request is None or not request.keep_alive

    def work(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Answer the current request by a task."""
        task = self._task = asyncio.get_running_loop().create_task(work)
        task.add_done_callback(self._handled)
        return task

    def writable(self) -> bool:
        """Tell whether the client reads fast enough."""
        return self._writable

    def send_last(self, exchange: Exchange, head: bytes, body: bytes) -> None:
        """Write a whole answer, whose head wants its length and its end, and go on as `finished` does."""
        host, keeps = self._host, exchange.request.keep_alive
        closing = host.draining or not keeps or (self._broken and not self._waiting)
        if self._transport is not None:
            last = b"connection: close\r\n\r\n" if closing else b"\r\n"
            self._transport.write(b"%bcontent-length: %d\r\n%b%b" % (head, len(body), last, body))
        if closing or self._waiting or self._in_head or not exchange.complete:
            self.finished(exchange)
            return
        host.buffered -= exchange.surrender()
        self._current = self._task = None
        self._phase, self.deadline = Phase.IDLE, host.now() + self._limits.idle_time
        if not self._reading:
            self._read(True)

    def finished(self, exchange: Exchange) -> None:
        """Go on with the next request; close where the head of the answer said so."""
        closing = self.must_close()
        self._release(exchange)
        self._current = self._task = None
        if not exchange.complete or (self._broken and not self._waiting):
            self._linger()
        elif closing:
            self._close()
        else:
            self._next()

    def cut(self) -> None:
        """Send what is written and close, the last chunk left out."""
        if self._current is not None:
            self._release(self._current)
        self._current = self._task = None
        self._waiting.clear()
        self._close()

    def _release(self, exchange: Exchange) -> None:
        self._host.buffered -= exchange.surrender()

    # Ends and deadlines

    def _close(self) -> None:
        self._broken = True
        self._enter(Phase.LINGER, self._limits.write_time)
        if self._transport is not None:
            self._transport.close()

    def _linger(self) -> None:
        self._broken = True
        self._enter(Phase.LINGER, self._limits.linger_time)
        self._read(True)
        if self._transport is not None and self._transport.can_write_eof():
            with contextlib.suppress(OSError, RuntimeError):
                self._transport.write_eof()

    def shut_idle(self) -> None:
        """Close the connection if nothing is going on."""
        if self._phase is Phase.IDLE:
            self._close()

    def overrule(self, fault: PeerFault) -> None:
        """End the request that is being worked on: its handler is cancelled, and answers with the fault."""
        current = self._current
        if current is None:
            return
        if self._task is not None and not self._task.done():
            self._since = math.inf
            current.overruled = fault
            self.noted(fault)
            self._task.cancel()
        elif current.watcher is not None:
            self._since = math.inf
            self.noted(fault)
            current.watcher.overruled(fault)

    def abort(self) -> asyncio.Task[None] | None:
        """Drop the connection; return the task that works on a request, if any."""
        task = self._task
        if self._transport is not None:
            self._transport.abort()
        self._forget()
        return task

    def expire(self, now: float) -> None:
        """Act on a deadline that has passed."""
        if self._current is not None and now - self._since > self._limits.request_age:
            self.overrule(RequestTooOld(f"the request lived longer than {self._limits.request_age:g} s"))
        if not self.deadline or now < self.deadline or self._transport is None:
            return
        self.deadline = 0.0
        if self._phase is Phase.HEAD:
            self._refuse(HeadTimeout(f"the request's head did not arrive within {self._limits.head_time:g} s"))
        elif self._phase is Phase.BODY and self._receiving is not None:
            self._receiving.fail(BodyStalled(f"the body made no progress for {self._limits.body_time:g} s"))
        elif self._phase is Phase.IDLE:
            self.noted(IdleTimeout(f"no request came for {self._limits.idle_time:g} s"))
            self._close()
        else:
            if self._phase is Phase.BUSY:
                self.noted(AnswerUnread(f"the answer was not read for {self._limits.write_time:g} s"))
            self._transport.abort()

    def _enter(self, phase: Phase, seconds: float) -> None:
        self._phase = phase
        self.deadline = self._host.now() + seconds if seconds else 0.0

    def _read(self, on: bool) -> None:
        if self._transport is None or on is self._reading or self._transport.is_closing():
            return
        self._reading = on
        if on:
            self._transport.resume_reading()
        else:
            self._transport.pause_reading()


def peer_of(transport: asyncio.BaseTransport) -> Peer:
    """Return who a socket says is at its other end."""
    peer = transport.get_extra_info("peername")
    address = str(peer[0]) if isinstance(peer, tuple) else ""
    return Peer(address)
