"""The replica's end of a tunnel: ask for the upgrade on a connection of its own, then pass bytes on as they are."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from typing import Any, Protocol, cast

import httptools

from zerotide.activator.failures import (
    MalformedResponse,
    ResponseLost,
    ResponseTruncated,
    UpstreamFault,
)
from zerotide.activator.wire.connecting import connect
from zerotide.activator.wire.exchange import Flow
from zerotide.activator.wire.limits import Limits
from zerotide.activator.wire.message import Headers, connection_tokens
from zerotide.activator.wire.upstream import Sink

_MAGIC = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
"""RFC 6455, section 1.3."""


class TunnelSink(Sink, Protocol):
    """Where an answer goes that may be an upgrade."""

    def switched(self, headers: Headers, end: ReplicaEnd) -> Flow | None:
        """Take the head of an upgrade; return what makes the client wait. All data after it is the tunnel's."""


class ReplicaEnd(asyncio.Protocol):
    """A connection to a replica for one upgrade and what follows it."""

    def __init__(self, limits: Limits, request: bytes, key: bytes, sink: TunnelSink) -> None:
        """`key` is the client's Sec-WebSocket-Key, to which the replica must have the answer."""
        self._limits, self._request, self._key = limits, request, key
        self._sink: TunnelSink | None = sink
        self._transport: asyncio.Transport | None = None
        self._parser: Any = httptools.HttpResponseParser(self)
        self._client: Flow | None = None
        self._headers: Headers = []
        self._head_size = 0
        self._in_head = True
        self._open = self._started = self._complete = self._until_close = False

    # The client's side

    def write(self, data: bytes) -> None:
        """Pass on what the client sent."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def pause(self) -> None:
        """Stop reading: the client does not."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()

    def resume(self) -> None:
        """Read on."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def abort(self) -> None:
        """Drop the connection; the sink hears no more."""
        self._sink = None
        if self._transport is not None:
            self._transport.abort()

    # Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask for the upgrade."""
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=self._limits.write_buffer)
        self._transport.write(self._request)

    def pause_writing(self) -> None:
        """Make the client wait."""
        if self._client is not None:
            self._client.pause()

    def resume_writing(self) -> None:
        """Let the client go on."""
        if self._client is not None:
            self._client.resume()

    def eof_received(self) -> bool | None:
        """Close: WebSocket has no half-closed connections."""
        return None

    def connection_lost(self, error: Exception | None) -> None:
        """Tell the sink; a tunnel that the replica closed is complete."""
        self._transport = None
        sink, self._sink = self._sink, None
        if sink is None:
            return
        if error is None and (self._open or self._until_close):
            sink.end()
        elif self._started:
            sink.lost(ResponseTruncated(f"the connection ended: {error or 'closed by the replica'}"))
        else:
            sink.lost(ResponseLost("the connection ended before the answer to the upgrade"))

    def data_received(self, data: bytes) -> None:
        """Pass on what arrived, or look for the answer to the upgrade in it."""
        if self._sink is None:
            self.abort()
        elif self._open:
            self._sink.data(data)
        else:
            self._parse(data)

    def _parse(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            rest = data[upgrade.args[0] :]
            if self._open and rest and self._sink is not None:
                self._sink.data(rest)
            elif not self._open:
                self._reject(MalformedResponse("the replica changed the protocol unasked"))
        except httptools.HttpParserError as error:
            own = error.__context__
            self._reject(
                own if isinstance(own, MalformedResponse) else MalformedResponse(f"no valid HTTP/1.1: {error}")
            )
        else:
            if self._complete:
                self._finish()

    # llhttp

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header; nobody reads trailers of a refused upgrade."""
        self._head_size += len(name) + len(value) + 4
        if self._head_size > self._limits.response_head_bytes:
            raise MalformedResponse("the head of the replica's answer is too large")
        if self._in_head:
            self._headers.append((name.lower(), value.strip(b" \t")))

    def on_headers_complete(self) -> None:
        """Open the tunnel where the replica agreed, or begin an answer like any other."""
        status = self._parser.get_status_code()
        headers, self._headers = self._headers, []
        if status != 101 and status < 200:
            return
        self._in_head = False
        sink = self._sink
        if sink is None:
            return
        if status == 101:
            self._check(headers)
            self._started = self._open = True
            self._client = sink.switched(headers, self)
            return
        lengths = [value for name, value in headers if name == b"content-length"]
        codings = [value.lower() for name, value in headers if name == b"transfer-encoding"]
        if codings not in ([], [b"chunked"]):
            raise MalformedResponse("the only transfer coding that is understood is chunked")
        length = 0 if status in (204, 304) else int(lengths[0]) if lengths else None
        self._started = True
        self._until_close = length is None and not codings
        sink.head(status, headers, length)

    def on_body(self, data: bytes) -> None:
        """Pass on a piece of the body of an answer that is no upgrade."""
        if self._sink is not None:
            self._sink.data(data)

    def on_message_complete(self) -> None:
        """Note the end of an answer that is no upgrade."""
        self._complete = not self._open and not self._in_head

    def _check(self, headers: Headers) -> None:
        agreed = base64.b64encode(hashlib.sha1(self._key + _MAGIC, usedforsecurity=False).digest())
        upgrades = [value.lower() for name, value in headers if name == b"upgrade"]
        answers = [value for name, value in headers if name == b"sec-websocket-accept"]
        if upgrades != [b"websocket"] or b"upgrade" not in connection_tokens(headers) or answers != [agreed]:
            raise MalformedResponse("the replica's answer to the upgrade is none to the client's key")

    def _finish(self) -> None:
        sink, self._sink = self._sink, None
        if self._transport is not None:
            self._transport.close()
        if sink is not None:
            sink.end()

    def _reject(self, fault: UpstreamFault) -> None:
        sink = self._sink
        self.abort()
        if sink is not None:
            sink.lost(fault)


async def open_tunnel(host: str, port: int, limits: Limits, request: bytes, key: bytes, sink: TunnelSink) -> ReplicaEnd:
    """Connect to a replica and ask it for an upgrade; the sink hears of the answer.

    Raises ConnectFailed.
    """
    return await connect(lambda: ReplicaEnd(limits, request, key, sink), host, port, limits.connect_time)
