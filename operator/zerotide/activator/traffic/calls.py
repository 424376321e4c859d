"""gRPC: a call is admitted and held as a request is; then its messages pass both ways as they come.

Until the hand-off no more of its body is taken from the client than fits into one window; after it, as much as the
replica takes. A call whose replica is lost is repeated for as long as all that was sent of it is still here.
"""

from __future__ import annotations

from collections.abc import Callable

from zerotide.activator.admission.messages import Messages
from zerotide.activator.endpoints.endpoint import Replica
from zerotide.activator.failures import ConnectFailed, PeerFault
from zerotide.activator.traffic.outgoing import upstream_headers
from zerotide.activator.traffic.relay import Relay
from zerotide.activator.traffic.replies import relayed
from zerotide.activator.traffic.visit import Visit
from zerotide.activator.traffic.way import Source
from zerotide.activator.wire import Headers
from zerotide.activator.wire.h2.line import Call
from zerotide.activator.wire.h2.stream import Stream
from zerotide.activator.wire.trailers import passable
from zerotide.api.grpc import UNKNOWN, format_timeout, http_status_of


class CallBody:
    """A call's messages on their way to a replica, kept while they may have to be sent again."""

    def __init__(self, stream: Stream, largest: int, kept: int) -> None:
        """`largest` bounds each message, `kept` what is kept, in bytes."""
        self._stream, self._most_kept = stream, kept
        self._messages = Messages(largest)
        self._kept = bytearray()
        self._at = 0
        self.whole = True
        """Whether all that was taken is kept."""

    def rewind(self) -> None:
        """Begin again."""
        self._at = 0

    def answered(self) -> None:
        """Keep nothing more: it will not be sent again."""
        self.whole = False
        self._kept.clear()
        self._at = 0

    def take(self, most: int) -> bytes:
        """Return the next piece, and let the client send as much again."""
        if self._at < len(self._kept):
            piece = bytes(self._kept[self._at : self._at + most])
            self._at += len(piece)
            return piece
        piece = self._stream.take(most)
        try:
            self._messages.feed(piece)
        except PeerFault as fault:
            self._stream.overrule(fault)
            return b""
        self._keep(piece)
        return piece

    def ended(self) -> bool:
        """Tell whether all of it was taken."""
        return self._at >= len(self._kept) and self._stream.exhausted

    def watch(self, call: Call | None) -> None:
        """Pump a call when there is more; a body that will never be complete ends the request."""
        stream = self._stream

        def look() -> None:
            if stream.fault is not None:
                stream.overrule(stream.fault)
            elif call is not None:
                call.pump()

        stream.on_body = look if call is not None else None

    def _keep(self, piece: bytes) -> None:
        if self.whole and len(self._kept) + len(piece) <= self._most_kept:
            self._kept += piece
            self._at = len(self._kept)
        elif self.whole and piece:
            self.answered()


class CallRelay(Relay):
    """Pass on a call's answer: its head, its messages, and the status in its trailers."""

    __slots__ = ("_body", "_stream")

    def __init__(self, visit: Visit, on_first: Callable[[], None], stream: Stream, body: CallBody) -> None:
        super().__init__(visit, on_first)
        self._stream, self._body = stream, body

    def head(self, status: int, headers: Headers, length: int | None) -> None:
        """Send the head on; one without anything after it is the whole answer."""
        self._body.answered()
        self.status = self._visit.status = status
        fields = relayed(headers, self._visit)
        if length == 0:
            self._told(headers)
            self._stream.answer_in_head(status, fields)
        else:
            self._stream.start(status, fields)

    def data(self, data: bytes) -> None:
        """Send messages on."""
        if not self.first:
            self._began()
        self.bytes += len(data)
        self._stream.write(data)

    def trailers(self, trailers: Headers) -> None:
        """Keep the status, and whatever else may pass."""
        self._told(trailers)
        self._trailers = passable(trailers)

    def _told(self, headers: Headers) -> None:
        status = next((value for name, value in headers if name == b"grpc-status"), b"")
        if self.status == 200:
            self._visit.status = http_status_of(int(status) if status.isdigit() else UNKNOWN)


class CallWay:
    """The way of a call: a stream of its own on a connection that calls share."""

    def __init__(self, visit: Visit, stream: Stream, largest: int, window: int, now: Callable[[], float]) -> None:
        """`largest` bounds each message, `window` what is held of the body, in bytes; `now` is monotonic seconds."""
        self._visit, self._stream, self._window, self._now = visit, stream, window, now
        self._body = CallBody(stream, largest, window)
        self.deadline: float | None = None
        """Until when the client waits, None where it does not say."""

    def size(self) -> int:
        """Return what it holds: what came if that is all, else as much as the client may still send."""
        return self._stream.held if self._stream.complete else self._window

    def timeout(self, longest: float) -> float:
        """Return what is left of the client's own deadline, where that is sooner."""
        return longest if self.deadline is None else min(longest, max(self.deadline - self._now(), 0.0))

    def relay(self, on_first: Callable[[], None]) -> Relay:
        """Return what takes the answer."""
        return CallRelay(self._visit, on_first, self._stream, self._body)

    def repeatable(self) -> bool:
        """Tell whether all that was sent is still here."""
        return self._body.whole

    async def send(self, replica: Replica, relay: Relay, *, fresh: bool = False) -> Source:
        """Begin the call at a replica."""
        if replica.lines is None:
            raise ConnectFailed(f"{replica.candidate.name} does not speak gRPC")
        self._body.rewind()
        return await replica.lines.send(self._headers(), self._body, relay, fresh=fresh)

    def _headers(self) -> Headers:
        (_, host), *plain = upstream_headers(self._visit)
        fields = [
            (b":method", b"POST"),
            (b":scheme", b"http"),
            (b":path", self._visit.target.encode("latin-1")),
            (b":authority", host),
            (b"te", b"trailers"),
            *((name, value) for name, value in plain if name != b"grpc-timeout"),
        ]
        if self.deadline is not None:
            fields.append((b"grpc-timeout", format_timeout(self.deadline - self._now()).encode()))
        return fields
