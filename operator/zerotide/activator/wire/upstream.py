"""One connection to a replica: a request goes out, the answer comes to a sink piece by piece."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Protocol, cast

import httptools

from zerotide.activator.failures import MalformedResponse, ResponseLost, ResponseTruncated, UpstreamFault
from zerotide.activator.wire.limits import Limits
from zerotide.activator.wire.memo import UNCUT, Memo, cut
from zerotide.activator.wire.message import Headers

log = logging.getLogger(__name__)

MOST_INTERIM = 8
"""Interim answers (1xx) before the final one: each begins a head of its own, so the limit of one bounds no flood."""


class Sink(Protocol):
    """Where an answer goes; exactly one of `end` and `lost` comes last."""

    def head(self, status: int, headers: Headers, length: int | None) -> None:
        """Take the head; `length` is None where the body's length is not announced."""

    def data(self, data: bytes) -> None:
        """Take what arrived of the body, as much as came at once."""

    def trailers(self, trailers: Headers) -> None:
        """Take the trailers, where there are any, before the end."""

    def end(self) -> None:
        """Note that the answer is complete."""

    def lost(self, fault: UpstreamFault) -> None:
        """Note that the answer will never be complete; ResponseLost before the head, others after it."""


class ResponseHead:
    """The head of an answer; answers whose heads are the same but for their length share one."""

    __slots__ = ("headers", "keep", "kept", "status")

    def __init__(self, status: int, headers: Headers, keep: bool) -> None:
        self.status = status
        self.headers = headers
        self.keep = keep
        """Whether the connection stays open after the answer."""
        self.kept: Any = None
        """What the sink makes of the head, kept for answers that share it."""


class QuickSink(Sink, Protocol):
    """A sink that can take an answer in one piece."""

    def whole(self, head: ResponseHead, body: bytes) -> None:
        """Take a whole answer, instead of `head`, `data` and `end`."""


class UpstreamConnection(asyncio.Protocol):
    """A kept-alive connection to one replica, for one request at a time."""

    __slots__ = (
        "_complete",
        "_head_size",
        "_headers",
        "_heads",
        "_in_head",
        "_interim",
        "_interims",
        "_keep",
        "_length",
        "_limits",
        "_on_idle",
        "_parser",
        "_parts",
        "_quick",
        "_reading",
        "_sink",
        "_started",
        "_status",
        "_trailers",
        "_transport",
        "_until_close",
        "idle_since",
        "served",
    )

    def __init__(
        self, limits: Limits, on_idle: Callable[[UpstreamConnection], None], heads: Memo[ResponseHead]
    ) -> None:
        self._limits = limits
        self._heads = heads
        self._on_idle = on_idle
        self._transport: asyncio.Transport | None = None
        self._parser: Any = None
        self._sink: Sink | None = None
        self._quick: QuickSink | None = None
        self._status = 0
        self._length: int | None = None
        self._headers: Headers = []
        self._trailers: Headers = []
        self._head_size = 0
        self._in_head = self._interim = False
        self._interims = 0
        self._started = False
        self._until_close = False
        self._complete = self._keep = False
        self._parts: list[bytes] = []
        self._reading = True
        self.served = 0
        self.idle_since = 0.0

    @property
    def open(self) -> bool:
        """Tell whether a request may be sent."""
        return self._transport is not None and not self._transport.is_closing()

    def reserve(self, sink: QuickSink) -> None:
        """Keep the connection for a request that `send_quick` is about to send; the sink hears of its end."""
        self._sink = self._quick = sink

    def send_quick(self, request: bytes) -> None:
        """Send the request that the connection is kept for."""
        self._complete = self._until_close = self._keep = self._started = False
        self._trailers, self._interims = [], 0
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(request)
        else:
            self._fail("the connection was closed")

    def send(self, request: tuple[bytes, bytes], sink: Sink) -> None:
        """Send one whole request; the sink hears of the answer."""
        self._sink, self._quick = sink, None
        self._started = self._complete = self._until_close = self._keep = False
        self._trailers, self._interims = [], 0
        if self._transport is None or self._transport.is_closing():
            self._fail("the connection was closed")
            return
        self._transport.writelines([part for part in request if part])

    def pause(self) -> None:
        """Stop reading the answer; once all of it has come there is none, and the next one must be read."""
        reading = self._reading and self._sink is not None
        if reading and self._transport is not None and not self._transport.is_closing():
            self._reading = False
            self._transport.pause_reading()

    def resume(self) -> None:
        """Read on."""
        if not self._reading and self._transport is not None and not self._transport.is_closing():
            self._reading = True
            self._transport.resume_reading()

    def abort(self) -> None:
        """Drop the connection; the sink hears no more."""
        self._sink = self._quick = None
        if self._transport is not None:
            self._transport.abort()

    def close(self) -> None:
        """Close the connection once it is idle."""
        if self._sink is None and self._transport is not None:
            self._transport.close()

    # Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection."""
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, error: Exception | None) -> None:
        """Tell the sink, unless the end of the connection is the end of the answer."""
        self._transport = None
        self._parser = None
        if self._sink is None:
            return
        if self._until_close and error is None:
            self._succeed()
        else:
            self._fail(f"the connection ended: {error or 'closed by the replica'}")

    def data_received(self, data: bytes) -> None:
        """Parse what arrived."""
        if self._sink is None:
            self.abort()
            return
        quick, self._quick = self._quick, None
        if quick is not None:
            self._receive_first(quick, data)
        else:
            self._receive(data)

    def _receive_first(self, sink: QuickSink, data: bytes) -> None:
        """Take what begins with a head: one that is known, of an answer that is whole, needs no parsing."""
        key, length, body_at = cut(data) or UNCUT
        if len(data) - body_at != length:
            self._receive(data)
            return
        known = self._heads.get(key)
        if known is not None:
            self._sink, self._keep = None, known.keep
            transport = self._transport
            if self._keep and self._reading and transport is not None and not transport.is_closing():
                self.served += 1
                self._on_idle(self)
            else:
                self._release()
            sink.whole(known, data[body_at:])
            return
        self._length = None
        self._receive(data)
        self._remember(key, length)

    def _remember(self, key: bytes, length: int) -> None:
        framed = self._length == length and not self._until_close and self._status not in (204, 304)
        if self._complete and framed:
            self._heads.add(key, ResponseHead(self._status, self._headers, self._keep))

    def _receive(self, data: bytes) -> None:
        self._parser = self._parser or httptools.HttpResponseParser(self)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._flush()
            self._reject(_fault_of(error))
            return
        self._flush()
        if self._complete:
            self._succeed()
        elif self._in_head and self._head_size > self._limits.response_head_bytes:
            self._reject(MalformedResponse("the head of the replica's answer is too large"))

    def eof_received(self) -> bool | None:
        """Close."""
        return None

    # llhttp

    def on_message_begin(self) -> None:
        """Begin the head of an answer; anything after a complete one is not asked for."""
        if self._complete:
            raise MalformedResponse("more than one answer to one request")
        self._in_head, self._interim = True, False
        self._headers, self._head_size = [], 0

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header, or a trailer; both together are bounded."""
        self._head_size += len(name) + len(value) + 4
        if self._head_size > self._limits.response_head_bytes:
            raise MalformedResponse("the head of the replica's answer is too large")
        (self._headers if self._in_head else self._trailers).append((name.lower(), value.strip(b" \t")))

    def on_headers_complete(self) -> None:
        """Hand the head on; interim answers are swallowed."""
        self._in_head = False
        status = self._parser.get_status_code()
        if status < 200:
            if status == 101:
                raise MalformedResponse("the replica changed the protocol unasked")
            self._interims += 1
            if self._interims > MOST_INTERIM:
                raise MalformedResponse(f"the replica sent more than {MOST_INTERIM} interim answers")
            self._interim = True
            return
        length, chunked = None, False
        for name, value in self._headers:
            if name == b"content-length":
                length = int(value)
            elif name == b"transfer-encoding":
                if chunked or value.lower() != b"chunked":
                    raise MalformedResponse("the only transfer coding that is understood is chunked, once")
                chunked = True
        self._status, self._length = status, length
        if status in (204, 304):
            length = 0
        self._started = True
        self._until_close = length is None and not chunked
        if self._sink is not None:
            self._sink.head(status, self._headers, length)

    def on_body(self, data: bytes) -> None:
        """Keep a piece until all that arrived at once is parsed."""
        self._parts.append(data)

    def on_message_complete(self) -> None:
        """Note the end of the answer."""
        self._complete = not self._interim
        self._keep = self._parser.should_keep_alive()

    # Ends

    def _flush(self) -> None:
        if self._parts:
            parts, self._parts = self._parts, []
            if self._sink is not None:
                self._sink.data(parts[0] if len(parts) == 1 else b"".join(parts))

    def _succeed(self) -> None:
        sink, self._sink = self._sink, None
        self._release()
        if sink is not None:
            if self._trailers:
                sink.trailers(self._trailers)
            sink.end()

    def _release(self) -> None:
        self.served += 1
        self.resume()
        if self._keep and self.open:
            self._on_idle(self)
        elif self._transport is not None:
            self._transport.close()

    def _reject(self, fault: MalformedResponse) -> None:
        sink = self._sink
        self.abort()
        if sink is not None:
            sink.lost(fault)

    def _fail(self, message: str) -> None:
        sink, self._sink = self._sink, None
        if sink is None:
            return
        if self._started:
            sink.lost(ResponseTruncated(message))
        else:
            sink.lost(ResponseLost(message, reused=self.served > 0))


def _fault_of(error: Exception) -> MalformedResponse:
    """Return our own reason where a callback raised one, else llhttp's; a bug in a sink is not hidden."""
    cause = error.__context__
    if isinstance(cause, MalformedResponse):
        return cause
    if cause is not None:
        log.error("an answer could not be passed on", exc_info=cause)
    return MalformedResponse(f"the replica's answer is not valid HTTP/1.1: {error}")
