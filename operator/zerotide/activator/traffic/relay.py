"""A replica's answer on its way to the client."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from zerotide.activator.failures import UpstreamFault
from zerotide.activator.traffic.replies import foreign_error_event, relayed
from zerotide.activator.traffic.visit import Visit
from zerotide.activator.usage.tap import Events, Tap, Through, kind_of, tap_for, tokens_of
from zerotide.activator.wire import Headers
from zerotide.activator.wire.trailers import accepts_trailers, passable
from zerotide.api.usage import Tokens

_TOLD = frozenset((b"x-prompt-tokens", b"x-generated-tokens"))
_THROUGH = Through()
MOST_COLLECTED = 256 * 1024


class Passing:
    """What the head of an answer says of its body's way."""

    __slots__ = ("counted", "kind")

    def __init__(self, headers: Headers) -> None:
        told = {name: value for name, value in headers if name in _TOLD or name.startswith(b"content-")}
        encoded = told.get(b"content-encoding", b"identity").lower() != b"identity"
        self.kind = kind_of(told.get(b"content-type", b"").decode("latin-1"), encoded)
        self.counted = tokens_of(told)
        """Tokens that the head tells already."""

    def tap(self, visit: Visit) -> Tap:
        """Return what the answer's body passes through."""
        return tap_for(self.kind, visit.protocol, self.counted, visit.payload.adds_usage)


class Conveyor:
    """Pass an answer on as it comes; who makes one says what follows from its first byte and from its end."""

    __slots__ = ("_collected", "_tap", "_trailers", "_visit", "bytes", "fault", "first", "status")

    def __init__(self, visit: Visit) -> None:
        self._visit = visit
        self._tap: Tap = _THROUGH
        self._collected: bytearray | None = None
        self._trailers: Headers | None = None
        self.first = False
        """Whether a byte of the body came."""
        self.bytes = 0
        self.status = 0
        self.fault: UpstreamFault | None = None

    @property
    def tokens(self) -> Tokens | None:
        """Return what the answer said of its tokens so far."""
        return self._tap.tokens()

    def head(self, status: int, headers: Headers, length: int | None) -> None:
        """Send the head on, or only remember it where the client has one already."""
        visit = self._visit
        self.status = visit.status = status
        self._tap = Passing(headers).tap(visit)
        events = isinstance(self._tap, Events)
        visit.streaming = visit.streaming or events
        if visit.committed:
            if not (status == 200 and events):
                self._collected = bytearray()
            return
        visit.exchange.start(status, relayed(headers, visit), None if events else length)

    def data(self, data: bytes) -> None:
        """Send a piece of the body on."""
        if not self.first:
            self._began()
        self.bytes += len(data)
        data = self._tap.feed(data)
        if self._collected is None:
            self._visit.exchange.write(data)
        elif len(self._collected) < MOST_COLLECTED:
            self._collected += data

    def trailers(self, trailers: Headers) -> None:
        """Keep those that may be passed on, for a client that reads them."""
        if accepts_trailers(self._visit.exchange.request.headers):
            self._trailers = passable(trailers)

    def end(self) -> None:
        """End the answer as complete."""
        if not self.first:
            self._began()
        exchange, rest = self._visit.exchange, self._tap.finish()
        if self._collected is not None:
            self._end_within(bytes(self._collected) + rest)
        else:
            exchange.write(rest)
            exchange.end(self._trailers)
        self._finish()

    def lost(self, fault: UpstreamFault) -> None:
        """Remember why there will be no more."""
        self.fault = fault
        self._finish()

    def _began(self) -> None:
        self.first = True

    def _end_within(self, body: bytes) -> None:
        """Put an answer that is no stream into the stream that the client reads."""
        exchange = self._visit.exchange
        if self.status >= 400:
            exchange.write(foreign_error_event(self.status, body, self._visit.protocol))
            exchange.cut()
        else:
            exchange.write(b"data: " + b" ".join(body.split(b"\n")).strip() + b"\n\n")
            exchange.end()

    def _finish(self) -> None:
        """Nothing more will come."""


class Relay(Conveyor):
    """Pass an answer on for a task that waits for its end: `done` once it ended, well or not."""

    __slots__ = ("_on_first", "done", "over")

    def __init__(self, visit: Visit, on_first: Callable[[], None]) -> None:
        super().__init__(visit)
        self._on_first = on_first
        self.again()

    def again(self) -> None:
        """Wait for an answer, of which nothing has come yet."""
        self.fault = None
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.over = False
        """Whether all has come that will: the connection is another request's then, though this one may go on."""

    def release(self) -> None:
        """Have nothing more to do with the connection, neither to make it wait nor to drop it."""
        self.over = True
        self._visit.exchange.flow = None

    def end(self) -> None:
        """End the answer as complete."""
        self.release()
        super().end()

    def close(self) -> None:
        """Nobody waits any more."""

    def _began(self) -> None:
        super()._began()
        self._on_first()

    def _finish(self) -> None:
        self.release()
        if not self.done.done():
            self.done.set_result(None)
