"""The server, as its connections of HTTP/2 see it."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, Protocol

from zerotide.activator.failures import PeerFault
from zerotide.activator.wire.door import Door
from zerotide.activator.wire.exchange import Exchange
from zerotide.activator.wire.limits import Limits
from zerotide.activator.wire.message import Headers


class Host(Protocol):
    """What connections have in common."""

    limits: Limits
    door: Door
    draining: bool
    buffered: int
    connections: set[Any]

    def now(self) -> float:
        """Return the monotonic time in seconds."""

    def handle(self, exchange: Exchange) -> Coroutine[Any, Any, None]:
        """Answer one request."""

    def answer_to(self, fault: PeerFault) -> tuple[int, Headers, bytes]:
        """Return the answer to a request that could not be read."""
