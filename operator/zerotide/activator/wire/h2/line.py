"""One connection of HTTP/2 to a replica, with many calls at a time, each with a body that comes bit by bit."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol, cast

from h2.errors import ErrorCodes
from h2.events import (
    DataReceived,
    Event,
    RemoteSettingsChanged,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
    WindowUpdated,
)
from h2.exceptions import ProtocolError

from zerotide.activator.failures import MalformedResponse, ResponseLost, ResponseTruncated, UpstreamFault
from zerotide.activator.wire.h2.engine import FRAME, Engine
from zerotide.activator.wire.h2.frames import Frames
from zerotide.activator.wire.limits import Limits
from zerotide.activator.wire.message import Headers
from zerotide.activator.wire.upstream import Sink

MOST_CALLS = 1_000_000
"""Calls after which a connection takes no more, long before its numbers for streams run out."""


class Body(Protocol):
    """A request's body, taken as windows allow."""

    def take(self, most: int) -> bytes:
        """Return what there is, `most` bytes at most."""

    def ended(self) -> bool:
        """Tell whether all of it was taken."""

    def watch(self, call: Call | None) -> None:
        """Pump this call whenever there is more."""


class Call:
    """One request and its answer; the sink hears of the answer."""

    def __init__(self, line: Line, id: int, body: Body, sink: Sink) -> None:
        self.id, self.body, self.sink = id, body, sink
        self.started = self.sent = False
        self.paused = False
        self.unopened = 0
        """Bytes of the answer for which the replica may not send more yet."""
        self._line = line

    def pause(self) -> None:
        """Let the replica send no more than it may already."""
        self.paused = True

    def resume(self) -> None:
        """Let the replica go on."""
        self.paused = False
        self._line.open_window(self)

    def abort(self) -> None:
        """Want no more of it; the sink hears no more."""
        self._line.give_up(self)

    def pump(self) -> None:
        """Send what there is of the body."""
        self._line.pump(self)


class Line(asyncio.Protocol):
    """A connection to one replica.

    How many calls it takes is the replica's to say, in its settings. Until they have come it takes one: of more, those
    beyond what the replica allows would be reset.
    """

    def __init__(self, limits: Limits, changed: Callable[[], None]) -> None:
        """`changed` is called when it may have more room, or takes nothing any more."""
        self._limits, self._changed = limits, changed
        self._engine = Engine(limits, client=True)
        self._frames = Frames()
        self._calls: dict[int, Call] = {}
        self._transport: asyncio.Transport | None = None
        self._writable = True
        self._flushing = False
        self._retired = False
        self.settled = False
        """Whether the replica's settings have come."""
        self.promised = 0
        """Calls for which there is room here, and that are about to begin."""
        self.number = 0
        """Greater than that of any connection made before to the same address."""
        self.served = 0
        self.idle_since = 0.0

    @property
    def open(self) -> bool:
        """Tell whether it takes calls at all."""
        alive = self._transport is not None and not self._transport.is_closing()
        return alive and not self._retired and self.served < MOST_CALLS

    @property
    def calls(self) -> int:
        """Return how many calls are going on, or are about to begin."""
        return len(self._calls) + self.promised

    @property
    def room(self) -> bool:
        """Tell whether it takes one more call now."""
        told = self._engine.remote_settings.max_concurrent_streams if self.settled else 1
        return self.open and self.calls < min(told, self._limits.streams)

    def call(self, headers: Headers, body: Body, sink: Sink) -> Call:
        """Begin a call."""
        id = self._engine.get_next_available_stream_id()
        call = self._calls[id] = Call(self, id, body, sink)
        self.served += 1
        self._engine.send_headers(id, headers)
        body.watch(call)
        self.pump(call)
        self._soon()
        return call

    def retire(self) -> None:
        """Take no more calls; close once there are none."""
        self._retired = True
        if not self._calls and self._transport is not None:
            self._transport.close()
        self._changed()

    # Calls

    def pump(self, call: Call) -> None:
        """Send what there is of a body, as far as windows and the socket allow."""
        while self._is_open(call) and self._writable and not call.sent:
            if call.body.ended():
                call.sent = True
                self._engine.end_stream(call.id)
                break
            window = min(self._engine.local_flow_control_window(call.id), FRAME)
            piece = call.body.take(window) if window > 0 else b""
            if not piece:
                if window > 0 and call.body.ended():
                    continue
                break
            self._engine.send_data(call.id, piece)
        self._soon()

    def open_window(self, call: Call) -> None:
        """Let the replica send as much as was passed on."""
        size, call.unopened = call.unopened, 0
        if size and call.id in self._calls:
            self._engine.acknowledge_received_data(size, call.id)
            self._soon()

    def give_up(self, call: Call) -> None:
        """End a call that nobody wants any more."""
        if self._is_open(call):
            self._engine.reset_stream(call.id, ErrorCodes.CANCEL)
        self._forget(call)

    def _is_open(self, call: Call) -> bool:
        known = self._engine.streams.get(call.id)
        return known is not None and not known.closed and call.id in self._calls and self._transport is not None

    def _forget(self, call: Call) -> None:
        if self._calls.pop(call.id, None) is None:
            return
        call.body.watch(None)
        if self._transport is None:
            return
        if call.unopened:
            self._engine.acknowledge_received_data(call.unopened, call.id)
        self._soon()
        if not self._calls:
            self.idle_since = asyncio.get_running_loop().time()
            if self._retired:
                self._flush()
                self._transport.close()
        self._changed()

    def _lose(self, call: Call, message: str, *, untouched: bool = False) -> None:
        self._forget(call)
        fault: UpstreamFault = ResponseTruncated(message)
        if not call.started:
            fault = ResponseLost(message, reused=untouched)
        call.sink.lost(fault)

    # Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Say hello."""
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=self._limits.write_buffer)
        self._flush()

    def connection_lost(self, error: Exception | None) -> None:
        """Tell every call."""
        self._transport = None
        for call in list(self._calls.values()):
            self._lose(call, f"the connection ended: {error or 'closed by the replica'}", untouched=self.served > 1)
        self._changed()

    def eof_received(self) -> bool | None:
        """Close."""
        return None

    def pause_writing(self) -> None:
        """Take nothing of bodies."""
        self._writable = False

    def resume_writing(self) -> None:
        """Take of bodies again."""
        self._writable = True
        self._pump_all()

    def data_received(self, data: bytes) -> None:
        """Take in what arrived."""
        data, _ = self._frames.feed(data)
        try:
            for event in self._engine.receive_data(data) if data else ():
                self._take(event)
        except ProtocolError as error:
            self._retired = True
            fault = MalformedResponse(f"the replica's answer is not valid HTTP/2: {error}")
            self._flush()
            for call in list(self._calls.values()):
                self._forget(call)
                call.sink.lost(fault)
            if self._transport is not None:
                self._transport.close()
            self._changed()
            return
        if self._frames.goaway is not None and not self._retired:
            last = self._frames.goaway.last_stream
            for call in [call for call in self._calls.values() if call.id > last]:
                self._lose(call, "the replica takes no more calls on this connection", untouched=True)
            self.retire()
        self._soon()

    # Events

    def _take(self, event: Event) -> None:
        if isinstance(event, WindowUpdated | RemoteSettingsChanged):
            if isinstance(event, RemoteSettingsChanged):
                self._engine.bound_table()
                self.settled = True
                self._changed()
            self._pump_all()
            return
        call = self._calls.get(getattr(event, "stream_id", 0) or 0)
        if isinstance(event, DataReceived):
            self._take_data(event, call)
        elif call is None:
            return
        elif isinstance(event, ResponseReceived):
            fields = [(bytes(name), bytes(value)) for name, value in event.headers]
            call.started = True
            status = int(dict(fields)[b":status"])
            plain = [(name, value) for name, value in fields if not name.startswith(b":")]
            call.sink.head(status, plain, 0 if event.stream_ended is not None else None)
        elif isinstance(event, TrailersReceived):
            call.sink.trailers([(bytes(name), bytes(value)) for name, value in event.headers])
        elif isinstance(event, StreamEnded):
            self._end(call)
        elif isinstance(event, StreamReset):
            refused = event.error_code == ErrorCodes.REFUSED_STREAM
            self._lose(call, f"the replica reset the stream: {event.error_code!r}", untouched=refused)

    def _take_data(self, event: DataReceived, call: Call | None) -> None:
        if call is None:
            self._engine.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            return
        call.unopened += event.flow_controlled_length
        call.sink.data(bytes(event.data))
        if not call.paused:
            self.open_window(call)

    def _end(self, call: Call) -> None:
        if not call.sent and self._is_open(call):
            # The replica has answered without the rest of the request, and may.
            self._engine.reset_stream(call.id, ErrorCodes.NO_ERROR)
        self._forget(call)
        call.sink.end()

    def _pump_all(self) -> None:
        for call in list(self._calls.values()):
            self.pump(call)

    def _soon(self) -> None:
        if not self._flushing and self._transport is not None:
            self._flushing = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        self._flushing = False
        data = self._engine.data_to_send()
        if data and self._transport is not None:
            self._transport.write(data)
