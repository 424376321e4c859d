"""One client connection of HTTP/2: frames to requests, answers in turns, deadlines, and an end that nobody misreads."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable
from typing import Any

from h2.errors import ErrorCodes
from h2.events import (
    DataReceived,
    Event,
    RemoteSettingsChanged,
    RequestReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
    WindowUpdated,
)
from h2.exceptions import ProtocolError

from zerotide.activator.failures import (
    AnswerUnread,
    FloodingPeer,
    HeadTimeout,
    HeadTooLarge,
    IdleTimeout,
    MalformedRequest,
    PeerFault,
    RequestTooOld,
)
from zerotide.activator.wire.door import Peer
from zerotide.activator.wire.h2.engine import EVERY_STREAM, PREFACE, Engine, goaway
from zerotide.activator.wire.h2.floods import Allowance
from zerotide.activator.wire.h2.frames import CONTINUATION, Frame, Frames
from zerotide.activator.wire.h2.sender import Sender
from zerotide.activator.wire.h2.stream import Stream
from zerotide.activator.wire.h2.strict import read_request
from zerotide.activator.wire.host import Host
from zerotide.activator.wire.message import Headers, Request

log = logging.getLogger(__name__)

GRACE = 1.0
"""Seconds from the first word of a drain to the last: streams that are on their way then are still taken."""


class H2Connection(asyncio.Protocol):
    """A client's connection with many requests at a time; `begin` takes it over once its preface was read."""

    def __init__(self, host: Host, peer: Peer, transport: asyncio.Transport) -> None:
        self._host, self._peer = host, peer
        self._limits = host.limits
        self._transport: asyncio.Transport | None = transport
        self._engine = Engine(host.limits, client=False)
        self._frames = Frames()
        self._streams: dict[int, Stream] = {}
        self._tasks: dict[asyncio.Task[None], Stream] = {}
        now = host.now()
        self._resets = Allowance(self._limits.resets, self._limits.resets / 10, now)
        self._idle_frames = Allowance(self._limits.idle_frames, self._limits.idle_frames / 10, now)
        self.sender = Sender(self._engine, self._limits, transport, self._idle_frames, self._forget)
        self._idle_deadline = now + self._limits.idle_time
        self._frame_deadline = self._write_deadline = 0.0
        self._leaving = 0.0
        self._last: int | None = None
        self._closed = False

    def begin(self, data: bytes) -> None:
        """Read on after the preface."""
        if self._transport is not None:
            self._transport.set_protocol(self)
            self._engine.receive_data(PREFACE)
            self.sender.soon()
            self.data_received(data)

    # Transport

    def connection_lost(self, error: Exception | None) -> None:
        """Tell whoever works on a request that the client is gone."""
        self._transport = None
        if self in self._host.connections:
            self._host.connections.discard(self)
            self._host.door.leave(self._peer.address)
        for stream in list(self._streams.values()):
            stream.detach()
        self._streams.clear()
        for task in list(self._tasks):
            task.cancel()

    def eof_received(self) -> bool | None:
        """Close: a client that closed its side is taken for gone."""
        return None

    def pause_writing(self) -> None:
        """Keep what comes until the client has read."""
        self.sender.writable = False
        self._write_deadline = self._host.now() + self._limits.write_time

    def resume_writing(self) -> None:
        """Go on with what was kept."""
        self.sender.writable = True
        self._write_deadline = 0.0
        self.sender.pump_all()

    def data_received(self, data: bytes) -> None:
        """Take in what arrived, within what a client may do."""
        if self._closed:
            return
        data, begun = self._frames.feed(data)
        idle = sum(frame.idle for frame in begun)
        now = self._host.now()
        try:
            if idle and not self._idle_frames.spend(idle, now):
                raise FloodingPeer("too many frames that bring no request")
            if self._frames.block_bytes > 2 * self._limits.head_bytes:
                raise HeadTooLarge(f"the request's head is larger than {self._limits.head_bytes} bytes")
            for event in self._engine.receive_data(data) if data else ():
                self._take(event, now)
        except PeerFault as fault:
            self._end(fault, ErrorCodes.ENHANCE_YOUR_CALM)
        except ProtocolError as error:
            self._end(MalformedRequest(f"this is not valid HTTP/2: {error}"), None)
        else:
            self._look(begun, now)
            self.sender.soon()

    def _look(self, begun: list[Frame], now: float) -> None:
        if not self._frames.unfinished:
            self._frame_deadline = 0.0
        elif not self._frame_deadline or any(frame.kind != CONTINUATION for frame in begun):
            self._frame_deadline = now + self._limits.head_time
        if self._frames.goaway is not None and not self._streams:
            self._close()

    # Events

    def _take(self, event: Event, now: float) -> None:
        if isinstance(event, RequestReceived):
            self._begin_stream(event)
        elif isinstance(event, DataReceived):
            stream = self._streams.get(event.stream_id)
            if stream is None:
                self._engine.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            else:
                stream.take_in(bytes(event.data), event.flow_controlled_length)
        elif isinstance(event, StreamEnded):
            stream = self._streams.get(event.stream_id)
            if stream is not None:
                stream.finish_body()
        elif isinstance(event, StreamReset):
            if not self._resets.spend(1, now):
                raise FloodingPeer("too many requests are given up")
            self._drop(event.stream_id)
        elif isinstance(event, WindowUpdated | RemoteSettingsChanged):
            if isinstance(event, RemoteSettingsChanged):
                self._engine.bound_table()
            self.sender.pump_all()
        elif isinstance(event, TrailersReceived):
            pass  # checked by the engine; nothing that goes to a replica has any

    def _begin_stream(self, event: RequestReceived) -> None:
        id = event.stream_id
        if (self._last is not None and id > self._last) or len(self._tasks) >= 2 * self._limits.streams:
            self.sender.reset(id, ErrorCodes.REFUSED_STREAM)
            return
        try:
            request = read_request(event.headers, ended=event.stream_ended is not None)
        except PeerFault as fault:
            self._refuse(id, fault, ended=event.stream_ended is not None)
            return
        self._idle_frames.earn(10)
        stream = self._streams[id] = Stream(id, request, self._peer, self, self._limits)
        task = asyncio.get_running_loop().create_task(self._host.handle(stream))
        self._tasks[task] = stream
        task.add_done_callback(self._handled)

    def _refuse(self, id: int, fault: PeerFault, *, ended: bool) -> None:
        """Answer a request that could not be read."""
        self.noted(fault)
        status, headers, body = self._host.answer_to(fault)
        nothing = Request("GET", "/", [], length=None, chunked=not ended, keep_alive=True, expects_continue=False)
        stream = self._streams[id] = Stream(id, nothing, self._peer, self, self._limits)
        stream.send(status, headers, body)

    def _handled(self, task: asyncio.Task[None]) -> None:
        stream = self._tasks.pop(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            log.error("a request's handler failed", exc_info=error)
        if not stream.ended:
            stream.cut()

    def _drop(self, id: int) -> None:
        stream = self._streams.get(id)
        if stream is None:
            return
        self._forget(stream)
        for task, each in list(self._tasks.items()):
            if each is stream:
                task.cancel()

    def _forget(self, stream: Stream) -> None:
        """Work on a stream no more; what it still kept of its body makes room for others."""
        if self._streams.pop(stream.id, None) is None:
            return
        unopened = stream.unopened
        stream.detach()
        if self._transport is None or self._closed:
            return
        if unopened:
            self._engine.acknowledge_received_data(unopened, stream.id)
        self.sender.soon()
        if not self._streams:
            self._idle_deadline = self._host.now() + self._limits.idle_time
            if self._last is not None or self._frames.goaway is not None:
                self._close()

    # What streams ask for

    def now(self) -> float:
        """Return the monotonic time in seconds."""
        return self._host.now()

    def head(self, stream: Stream, headers: Headers, *, last: bool) -> None:
        """Send a block of headers."""
        self.sender.head(stream, headers, last=last)

    def pump(self, stream: Stream) -> None:
        """Send what the windows allow."""
        self.sender.pump(stream)

    def consumed(self, stream: Stream, size: int) -> None:
        """Let the client send more."""
        self.sender.open_window(stream, size)

    def reserve(self, size: int) -> bool:
        """Take memory of the server's budget for bodies, or give it back."""
        if size > 0 and self._host.buffered + size > self._limits.buffered_bytes:
            return False
        self._host.buffered += size
        return True

    def noted(self, fault: PeerFault) -> None:
        """Count what went wrong."""
        self._host.door.faults[fault.reason] += 1

    def give_up(self, stream: Stream, fault: PeerFault) -> None:
        """End a stream whose client does not read."""
        self.noted(fault)
        self.sender.reset(stream.id, ErrorCodes.CANCEL)
        self._drop(stream.id)

    # Ends and deadlines

    def _end(self, fault: PeerFault, code: ErrorCodes | None) -> None:
        """Tell the client what it did wrong, and close; the engine has told it already where `code` is None."""
        self.noted(fault)
        self.sender.flush()
        if code is not None and self._transport is not None:
            self._transport.write(goaway(self._engine.highest_inbound_stream_id, code, fault.message))
        self._close()

    def _close(self) -> None:
        """Close once what is written is sent, and read; a client that still sends would lose it otherwise."""
        if self._closed:
            return
        self.sender.flush()
        self._closed = self.sender.closed = True
        self._write_deadline = self._host.now() + self._limits.linger_time
        if self._transport is None:
            return
        if self._transport.can_write_eof():
            self._transport.write_eof()
        else:
            self._transport.close()
        for stream in list(self._streams.values()):
            self._drop(stream.id)

    def _leave(self, now: float) -> None:
        """Say that no new streams are wanted; a little later, which were the last ones."""
        if self._transport is None or self._last is not None:
            return
        if not self._leaving:
            self._leaving = now + GRACE
            self.sender.flush()
            self._transport.write(goaway(EVERY_STREAM))
        elif now >= self._leaving:
            self._last = self._engine.highest_inbound_stream_id
            self.sender.flush()
            self._transport.write(goaway(self._last))
            if not self._streams:
                self._close()

    def shut_idle(self) -> None:
        """Close the connection if nothing is going on."""
        if not self._streams and self._transport is not None and not self._closed:
            self.sender.flush()
            self._transport.write(goaway(self._engine.highest_inbound_stream_id))
            self._close()

    def overrule(self, fault: PeerFault) -> None:
        """End every request that is being worked on: its handler is cancelled, and answers with the fault."""
        for task, stream in list(self._tasks.items()):
            if stream.overruled is None and not stream.ended:
                self._overrule(task, stream, fault)

    def overrule_stream(self, stream: Stream, fault: PeerFault) -> None:
        """End one request."""
        for task, each in list(self._tasks.items()):
            if each is stream and stream.overruled is None and not stream.ended:
                self._overrule(task, stream, fault)

    def _overrule(self, task: asyncio.Task[None], stream: Stream, fault: PeerFault) -> None:
        stream.overruled = fault
        self.noted(fault)
        task.cancel()

    def abort(self) -> Awaitable[Any] | None:
        """Drop the connection; return what still works on its requests, if anything."""
        tasks = list(self._tasks)
        if self._transport is not None:
            self._transport.abort()
        return asyncio.gather(*tasks, return_exceptions=True) if tasks else None

    def expire(self, now: float) -> None:
        """Act on deadlines that have passed."""
        if self._transport is None:
            return
        if self._write_deadline and now >= self._write_deadline:
            if not self._closed:
                self.noted(AnswerUnread(f"the answers were not read for {self._limits.write_time:g} s"))
            self._transport.abort()
            return
        if self._closed:
            return
        if self._host.draining:
            self._leave(now)
        if self._frame_deadline and now >= self._frame_deadline:
            late = HeadTimeout(f"a frame did not arrive within {self._limits.head_time:g} s")
            self._end(late, ErrorCodes.ENHANCE_YOUR_CALM)
        elif not self._streams and now >= self._idle_deadline:
            self.noted(IdleTimeout(f"no request came for {self._limits.idle_time:g} s"))
            self.shut_idle()
        else:
            self._expire_streams(now)

    def _expire_streams(self, now: float) -> None:
        for stream in list(self._streams.values()):
            stream.expire(now)
        age = self._limits.request_age
        for task, stream in list(self._tasks.items()):
            if now - stream.since > age and stream.overruled is None and not stream.ended:
                self._overrule(task, stream, RequestTooOld(f"the request lived longer than {age:g} s"))
