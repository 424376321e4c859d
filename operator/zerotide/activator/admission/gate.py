"""The gate of one endpoint: who goes to which replica now, who waits, and who is turned away.

Requests wait in the order in which they came; one that comes back because its replica was lost takes its old place.
Every ticket gets exactly one outcome per turn, through its `settle`; a ticket that went holds a place at its replica
until `leave`.
"""

from __future__ import annotations

import math
from bisect import insort
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Generic, TypeVar

from zerotide.activator.admission.choice import Choose, least_in_flight
from zerotide.api.errors import ErrorCode, Rejection

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Bounds:
    """This activator's bounds for one endpoint; times in seconds."""

    max_requests: int
    max_bytes: int
    per_replica: int
    """Requests in flight per replica, 0 for any number."""
    cold_timeout: float
    busy_timeout: float
    holds: bool = True


class Turn(Enum):
    """Where a ticket is."""

    OUTSIDE = "outside"
    HELD = "held"
    GONE = "on its way to a replica"


class Seat(Generic[R]):
    """A replica and the requests that it serves now."""

    __slots__ = ("in_flight", "key", "replica")

    def __init__(self, key: str, replica: R) -> None:
        self.key = key
        self.replica = replica
        self.in_flight = 0


class Ticket(Generic[R]):
    """A request's place: when it came, how large it is, and until when it may wait."""

    __slots__ = ("affinity", "arrived", "beat", "beat_at", "limit", "number", "seat", "settle", "size", "turn")

    def __init__(
        self,
        arrived: float,
        size: int,
        longest: float,
        settle: Callable[[Seat[R] | Rejection], None],
        affinity: int = 0,
    ) -> None:
        self.arrived = arrived
        self.size = size
        self.limit = arrived + longest
        self.settle = settle
        self.affinity = affinity
        """Requests of one affinity like to go to one replica; 0 for none."""
        self.number = 0
        self.turn = Turn.OUTSIDE
        self.seat: Seat[R] | None = None
        self.beat: Callable[[], None] | None = None
        """Called by sweeps from `beat_at` on, for as long as the ticket is held."""
        self.beat_at = math.inf

    def __lt__(self, other: Ticket[R]) -> bool:
        return self.number < other.number


class Gate(Generic[R]):
    """Let requests through to replicas with room, hold the others within bounds, in order."""

    def __init__(self, bounds: Bounds, choose: Choose[Seat[R]] = least_in_flight) -> None:
        self._bounds = bounds
        self.choose = choose
        self._seats: dict[str, Seat[R]] = {}
        self._queue: OrderedDict[int, Ticket[R]] = OrderedDict()
        self._returned: list[Ticket[R]] = []
        self._numbers = 0
        self._warm_since = -math.inf
        self.held_bytes = 0

    @property
    def held(self) -> int:
        """Return how many tickets wait."""
        return len(self._queue) + len(self._returned)

    @property
    def busy(self) -> bool:
        """Tell whether a ticket waits or is on its way to a replica."""
        return self.held > 0 or any(seat.in_flight for seat in self._seats.values())

    @property
    def cold(self) -> bool:
        """Tell whether there is no replica."""
        return not self._seats

    @property
    def bounds(self) -> Bounds:
        """Return the bounds."""
        return self._bounds

    def waiting(self) -> Iterator[Ticket[R]]:
        """Yield the tickets that wait, in order."""
        yield from self._returned
        yield from self._queue.values()

    def enter(self, ticket: Ticket[R], now: float) -> None:
        """Let a ticket through, hold it, or refuse it with queue_full, endpoint_cold or hold_timeout."""
        self._numbers += 1
        ticket.number = self._numbers
        if not self.held and self._grant(ticket):
            return
        if self.cold and not self._bounds.holds:
            ticket.settle(Rejection(ErrorCode.ENDPOINT_COLD))
        elif self.deadline(ticket) <= now:
            ticket.settle(self._late(ticket))
        elif not self._has_room(ticket):
            ticket.settle(Rejection(ErrorCode.QUEUE_FULL))
        else:
            self._hold(ticket)
            self._queue[ticket.number] = ticket

    def come_back(self, ticket: Ticket[R], now: float) -> None:
        """Take a ticket whose replica was lost back to its old place, or refuse it as `enter` does."""
        self._leave_seat(ticket)
        ticket.arrived = now  # its time at a replica was no time of waiting
        if not self.held and self._grant(ticket):
            return
        if not self._has_room(ticket):
            ticket.settle(Rejection(ErrorCode.QUEUE_FULL))
        elif self.deadline(ticket) <= now:
            ticket.settle(self._late(ticket))
        else:
            self._hold(ticket)
            insort(self._returned, ticket)
        self.pump()

    def leave(self, ticket: Ticket[R]) -> None:
        """Withdraw a ticket that waits, or end the visit of one that went; twice is harmless."""
        if ticket.turn is Turn.HELD:
            self._drop(ticket)
        elif ticket.turn is Turn.GONE:
            self._leave_seat(ticket)
            self.pump()

    def open(self, key: str, replica: R, now: float) -> None:
        """Let requests through to one more replica."""
        if not self._seats:
            self._warm_since = now
        self._seats[key] = Seat(key, replica)
        self.pump()

    def close(self, key: str) -> None:
        """Send nothing more to a replica; requests that it serves stay there."""
        self._seats.pop(key, None)

    def has_beside(self, key: str) -> bool:
        """Tell whether requests are let through to another replica than this one."""
        return any(each != key for each in self._seats)

    def rebound(self, bounds: Bounds) -> None:
        """Set new bounds; tickets that wait already stay."""
        self._bounds = bounds
        self.pump()

    def refuse_all(self, rejection: Callable[[], Rejection]) -> None:
        """Turn away everyone who waits."""
        for ticket in list(self.waiting()):
            self._drop(ticket)
            ticket.settle(rejection())

    def sweep(self, now: float, tick: float) -> None:
        """Turn away whose time is over before the next sweep in `tick` seconds, and beat for the others."""
        for ticket in list(self.waiting()):
            if self.deadline(ticket) < now + tick:
                self._drop(ticket)
                ticket.settle(self._late(ticket))
            elif ticket.beat_at <= now and ticket.beat is not None:
                ticket.beat()

    def deadline(self, ticket: Ticket[R]) -> float:
        """Return until when a ticket may wait: long while no replica is there, short while all are busy."""
        if self.cold:
            return min(ticket.limit, ticket.arrived + self._bounds.cold_timeout)
        return min(ticket.limit, max(ticket.arrived, self._warm_since) + self._bounds.busy_timeout)

    def pump(self) -> None:
        """Let through whom there is room for, in order."""
        while self._returned or self._queue:
            ticket = self._returned[0] if self._returned else next(iter(self._queue.values()))
            seat = self._best(ticket)
            if seat is None:
                return
            self._drop(ticket)
            self._seat(ticket, seat)

    def _grant(self, ticket: Ticket[R]) -> bool:
        seat = self._best(ticket)
        if seat is None:
            return False
        self._seat(ticket, seat)
        return True

    def _best(self, ticket: Ticket[R]) -> Seat[R] | None:
        return self.choose(self._seats.values(), self._bounds.per_replica, ticket.affinity)

    def _seat(self, ticket: Ticket[R], seat: Seat[R]) -> None:
        seat.in_flight += 1
        ticket.seat, ticket.turn = seat, Turn.GONE
        ticket.settle(seat)

    def _leave_seat(self, ticket: Ticket[R]) -> None:
        if ticket.seat is not None:
            ticket.seat.in_flight -= 1
        ticket.seat, ticket.turn = None, Turn.OUTSIDE

    def _has_room(self, ticket: Ticket[R]) -> bool:
        bounds = self._bounds
        return self.held < bounds.max_requests and self.held_bytes + ticket.size <= bounds.max_bytes

    def _hold(self, ticket: Ticket[R]) -> None:
        ticket.turn = Turn.HELD
        self.held_bytes += ticket.size

    def _drop(self, ticket: Ticket[R]) -> None:
        if self._queue.pop(ticket.number, None) is None:
            self._returned.remove(ticket)
        ticket.turn = Turn.OUTSIDE
        self.held_bytes -= ticket.size

    def _late(self, ticket: Ticket[R]) -> Rejection:
        at_once = ticket.limit <= ticket.arrived
        return Rejection(ErrorCode.ENDPOINT_COLD if self.cold and at_once else ErrorCode.HOLD_TIMEOUT)
