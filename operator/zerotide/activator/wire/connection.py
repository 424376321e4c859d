"""One client connection: bytes to requests, which are then answered in order."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import httptools

from zerotide.activator.failures import HeadTooLarge, MalformedRequest, PeerFault
from zerotide.activator.wire.carriage import NOBODY, Carriage, Phase
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
from zerotide.activator.wire.tunnel import check_opening, opens_websocket

MAX_HEADERS = 128
LINGER_BYTES = 64 * MIB
"""Of a refused request that are read and dropped: clients that write whole bodies lose the answer to a reset."""


class Connection(Carriage):
    """A client's connection; requests on it are answered one after the other."""

    __slots__ = (
        "_fresh",
        "_head_fed",
        "_head_size",
        "_headers",
        "_lines",
        "_lingered",
        "_parser",
        "_read_head",
        "_sizes",
        "_target",
        "_unstarted",
        "_upgrade",
    )

    def __init__(self, host: Host, peer: Peer | None = None) -> None:
        """`peer` is who was let in already; by default it is who the socket tells, and is let in here."""
        super().__init__(host, peer)
        self._parser: Any = None
        """Made when bytes are to be parsed, and dropped between requests: it is large, and most connections wait."""
        self._lines = RequestLines()
        self._sizes: ChunkSizes | None = None
        self._head_size = self._head_fed = self._lingered = 0
        self._target = b""
        self._headers: Headers = []
        self._upgrade: bytes | None = None
        self._fresh = True
        self._read_head: Request | None = None
        self._unstarted: Exchange | None = None

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
        """Keep nothing of what was being read, either."""
        super()._forget()
        self._parser = self._unstarted = None

    def eof_received(self) -> bool | None:
        """Close: a client that closed its side is taken for gone."""
        return None

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


def peer_of(transport: asyncio.BaseTransport) -> Peer:
    """Return who a socket says is at its other end."""
    peer = transport.get_extra_info("peername")
    address = str(peer[0]) if isinstance(peer, tuple) else ""
    return Peer(address)
