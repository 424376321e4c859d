"""What is known of one request on its way."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from zerotide.activator.admission.callers import Caller
from zerotide.activator.admission.payload import Payload
from zerotide.activator.endpoints.endpoint import Endpoint
from zerotide.activator.quota.hold import Hold
from zerotide.activator.usage.journal import LOST
from zerotide.activator.wire import Exchange
from zerotide.api.protocol import Protocol

if TYPE_CHECKING:
    from zerotide.activator.traffic.way import Way


_UNREAD = Payload(b"")


class Elsewhere(NamedTuple):
    """The endpoint that serves a request in the place of its own, and why."""

    endpoint: str
    cause: str


class Visit:
    """One request; times in seconds of the monotonic clock, `…_us` in microseconds since the epoch."""

    __slots__ = (
        "accepted_us",
        "affinity",
        "attempts",
        "batch",
        "caller",
        "claims",
        "cold",
        "committed",
        "counted",
        "elsewhere",
        "endpoint",
        "entry",
        "exchange",
        "first_byte",
        "held",
        "hold",
        "id",
        "longest",
        "payload",
        "protocol",
        "queued_ms",
        "shown_id",
        "started",
        "status",
        "streaming",
        "target",
        "way",
    )

    def __init__(self, exchange: Exchange, id: str, shown_id: str, started: float) -> None:
        self.exchange = exchange
        self.id = id
        """Ours: the key of its usage records."""
        self.shown_id = shown_id
        """The client's, where it sent one."""
        self.started = started
        self.target = exchange.request.target
        """Without the prefix that names the endpoint."""
        self.protocol = Protocol.TGI
        self.caller: Caller | None = None
        self.endpoint: Endpoint | None = None
        self.elsewhere: Elsewhere | None = None
        """Where it is served in the place of its own endpoint, None where by that."""
        self.payload = _UNREAD
        self.longest = 0.0
        """For how long it may be held by what it says itself."""
        self.affinity = 0
        """What it has in common with requests that like to go to the same replica; 0 for nothing."""
        self.batch = False
        """Whether it lets everyone who is in a hurry go first."""
        self.claims: tuple[str, ...] = ()
        """Names under which it is counted as a consumer's."""
        self.accepted_us = 0
        self.attempts = 0
        self.entry = LOST
        """What became of the record of its attempt."""
        self.cold = False
        """Whether it came while no replica could serve."""
        self.counted = False
        """Whether it counts as demand."""
        self.committed = False
        """Whether status 200 was sent ahead of any answer, to keep a stream alive."""
        self.streaming = False
        """Whether the client reads server-sent events, and so understands an error among them."""
        self.held = 0.0
        """For how long it was held."""
        self.queued_ms = 0
        self.first_byte = 0.0
        self.status = 0
        self.hold: Hold | None = None
        """What it has reserved of budgets, None where none asks for it."""
        self.way: Way | None = None
        """What is particular about it, None for a body that goes out over HTTP/1.1."""

    @property
    def path(self) -> str:
        """Return the target without its query."""
        return self.target.partition("?")[0]

    @property
    def size(self) -> int:
        """Return the bytes that it may keep in memory while it is held."""
        return len(self.payload.body) if self.way is None else self.way.size()

    @property
    def at_once(self) -> bool:
        """Tell whether the client wants to wait for nothing."""
        return self.longest <= 0

    @property
    def consumer(self) -> str:
        """Return who pays, `namespace/name`: whose key it is, else the endpoint's owner."""
        if self.caller is not None:
            return self.caller.consumer
        return self.endpoint.profile.owner if self.endpoint is not None else ""
