"""What goes to a client of HTTP/2: heads and pieces of answers, in turns, as far as windows and the socket allow."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from h2.errors import ErrorCodes

from zerotide.activator.wire.h2.engine import FRAME, Engine
from zerotide.activator.wire.h2.floods import Allowance
from zerotide.activator.wire.h2.stream import Stream
from zerotide.activator.wire.limits import Limits
from zerotide.activator.wire.message import Headers

TURN = 4 * FRAME
"""Bytes that one stream sends before it is another one's turn."""


class Sender:
    """Send on one connection; `done` is called with each stream whose answer ended."""

    def __init__(
        self,
        engine: Engine,
        limits: Limits,
        transport: asyncio.Transport,
        earned: Allowance,
        done: Callable[[Stream], None],
    ) -> None:
        self._engine, self._limits, self._transport = engine, limits, transport
        self._earned, self._done = earned, done
        self._waiting: deque[Stream] = deque()
        self._flushing = self._turning = False
        self._unsent = 0
        self.writable = True
        """Whether the socket takes more."""
        self.closed = False

    def head(self, stream: Stream, headers: Headers, *, last: bool) -> None:
        """Send a block of headers; `last` ends the stream's answer."""
        if not self._is_open(stream):
            return
        self._engine.send_headers(stream.id, headers, end_stream=last)
        self._sent(sum(len(name) + len(value) for name, value in headers))
        if last:
            self._complete(stream)

    def pump(self, stream: Stream) -> None:
        """Send what the windows allow, a turn's worth at most; the rest waits for its next turn."""
        if not self._is_open(stream):
            return
        turn = TURN
        while stream.queued:
            window = min(self._engine.local_flow_control_window(stream.id), FRAME, turn) if self.writable else 0
            if window <= 0:
                self._wait(stream, again=turn <= 0)
                return
            piece = stream.pull(window)
            turn -= len(piece)
            last = not stream.queued and stream.ended and not stream.is_cut and not stream.trailers
            self._engine.send_data(stream.id, piece, end_stream=last)
            self._earned.earn(2)
            self._sent(len(piece))
            if last:
                self._complete(stream)
                return
        if not stream.ended:
            stream.drained()
        elif stream.is_cut:
            self.reset(stream.id, ErrorCodes.INTERNAL_ERROR)
            self._done(stream)
        else:
            if stream.trailers:
                self._engine.send_headers(stream.id, stream.trailers, end_stream=True)
            else:
                self._engine.end_stream(stream.id)
            self._complete(stream)

    def pump_all(self) -> None:
        """Give every stream that waits a turn, until none gets on."""
        self._turning = False
        moved = True
        while moved and self._waiting and self.writable and not self.closed:
            moved = False
            for _ in range(len(self._waiting)):
                stream = self._waiting.popleft()
                before = stream.queued
                self.pump(stream)
                moved = moved or stream.queued < before

    def open_window(self, stream: Stream, size: int) -> None:
        """Let the client send `size` bytes more."""
        if size and self._is_open(stream):
            self._engine.acknowledge_received_data(size, stream.id)
            self.soon()

    def reset(self, id: int, code: ErrorCodes) -> None:
        """Reset a stream, unless it has ended already."""
        known = self._engine.streams.get(id)
        if known is not None and not known.closed and not self.closed:
            self._engine.reset_stream(id, code)
            self.soon()

    def soon(self) -> None:
        """Write once the loop goes on, together with all that comes until then."""
        if not self._flushing and not self.closed:
            self._flushing = True
            asyncio.get_running_loop().call_soon(self.flush)

    def flush(self) -> None:
        """Write."""
        self._flushing, self._unsent = False, 0
        if self.closed or self._transport.is_closing():
            return
        data = self._engine.data_to_send()
        if data:
            self._transport.write(data)

    def _is_open(self, stream: Stream) -> bool:
        """Tell whether frames may be sent on a stream: the engine may know of its end before we do."""
        known = self._engine.streams.get(stream.id)
        return known is not None and not known.closed and not stream.gone and not self.closed

    def _wait(self, stream: Stream, *, again: bool) -> None:
        if stream not in self._waiting:
            self._waiting.append(stream)
        if again and not self._turning:
            self._turning = True
            asyncio.get_running_loop().call_soon(self.pump_all)

    def _complete(self, stream: Stream) -> None:
        if not stream.complete:
            # The answer is whole, the rest of the request is of no use: RFC 9113, section 8.1.
            self.reset(stream.id, ErrorCodes.NO_ERROR)
        self._done(stream)

    def _sent(self, size: int) -> None:
        self._unsent += size
        if self._unsent > self._limits.write_buffer:
            self.flush()
        else:
            self.soon()
