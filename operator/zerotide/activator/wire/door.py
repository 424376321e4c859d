"""Who may connect: bounds on connections in all and from one address, and a count of what clients did wrong."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

from zerotide.activator.failures import TooManyConnections, TooManyFromAddress


class Peer(NamedTuple):
    """Who is at the other end of a connection, as replicas are told."""

    address: str
    """Without the port; empty where the socket has none."""
    scheme: bytes = b"http"


class Door:
    """Count connections and keep their bounds; 0 is no bound."""

    def __init__(self, most: int, most_per_address: int) -> None:
        self._most, self._most_per_address = most, most_per_address
        self._by_address: dict[str, int] = {}
        self.open = 0
        self.accepted = 0
        self.rejected: Counter[str] = Counter()
        """Connections that were closed before any request, by reason."""
        self.faults: Counter[str] = Counter()
        """Requests and connections that ended at a limit, or were no HTTP, by reason."""

    def enter(self, address: str, *, bounded: bool = True) -> None:
        """Let a connection in; an address that is not `bounded` may have any number.

        Raises TooManyConnections or TooManyFromAddress.
        """
        if self._most and self.open >= self._most:
            self.rejected[TooManyConnections.reason] += 1
            raise TooManyConnections(f"{self._most} connections are open")
        self._count(address, bounded)
        self.open += 1
        self.accepted += 1

    def leave(self, address: str) -> None:
        """Note the end of a connection that was let in."""
        left = self._by_address[address] - 1
        if left:
            self._by_address[address] = left
        else:
            del self._by_address[address]
        self.open -= 1

    def rename(self, before: str, address: str, *, bounded: bool = True) -> None:
        """Note from where a connection that is in really comes. Raises TooManyFromAddress; it is in all the same."""
        self._count(address, bounded)
        self.open += 1
        self.leave(before)

    def _count(self, address: str, bounded: bool) -> None:
        here = self._by_address.get(address, 0)
        if bounded and self._most_per_address and here >= self._most_per_address:
            self.rejected[TooManyFromAddress.reason] += 1
            raise TooManyFromAddress(f"{address} has {self._most_per_address} connections open")
        self._by_address[address] = here + 1
