"""How an admitted request gets to a replica and its answer back: the part that differs between protocols.

Everything else (who may call, holding, seats, retries, usage records) is the same for all of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from zerotide.activator.endpoints.endpoint import Replica
from zerotide.activator.traffic.relay import Relay
from zerotide.activator.wire import Flow


class Source(Flow, Protocol):
    """Where an answer comes from."""

    def abort(self) -> None:
        """Want no more of it; the relay hears no more."""


class Way(Protocol):
    """What is particular about a request that is not simply a body for HTTP/1.1."""

    def size(self) -> int:
        """Return the bytes that it may keep in memory while it is held."""

    def timeout(self, longest: float) -> float:
        """Return the seconds that its answer may take, `longest` at most."""

    def relay(self, on_first: Callable[[], None]) -> Relay:
        """Return what takes the answer of one attempt."""

    def repeatable(self) -> bool:
        """Tell whether it can be sent once more."""

    async def send(self, replica: Replica, relay: Relay, *, fresh: bool = False) -> Source:
        """Send it to a replica, over a new connection where `fresh`.

        Raises ConnectFailed; whatever happens later, the relay hears of.
        """
