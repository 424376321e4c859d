"""The server and its connections, as they see each other."""

from __future__ import annotations

from collections.abc import Awaitable, Coroutine
from typing import Any, Protocol

from zerotide.activator.failures import PeerFault
from zerotide.activator.wire.door import Door
from zerotide.activator.wire.exchange import Exchange
from zerotide.activator.wire.limits import Limits
from zerotide.activator.wire.memo import Memo
from zerotide.activator.wire.message import Headers, Request


class Served(Protocol):
    """A client's connection, as the server sees it, whatever it speaks."""

    def expire(self, now: float) -> None:
        """Act on a deadline that has passed."""

    def shut_idle(self) -> None:
        """Close the connection if nothing is going on."""

    def overrule(self, fault: PeerFault) -> None:
        """End what is being worked on: handlers are cancelled, and answer with the fault."""

    def abort(self) -> Awaitable[Any] | None:
        """Drop the connection; return what still works on its requests, if anything."""


class Host(Protocol):
    """The server, as its connections see it."""

    limits: Limits
    door: Door
    draining: bool
    buffered: int
    connections: set[Served]
    heads: Memo[Request]

    def now(self) -> float:
        """Return the monotonic time in seconds."""

    def handle(self, exchange: Exchange) -> Coroutine[Any, Any, None]:
        """Answer one request."""

    def express(self, exchange: Exchange) -> bool:
        """Answer a request that came whole without a task; False where that cannot be."""

    def answer_to(self, fault: PeerFault) -> tuple[int, Headers, bytes]:
        """Return the answer to a request that could not be read."""
