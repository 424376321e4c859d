"""The gate of one endpoint: who goes to which replica now, who waits, and who is turned away.

Those in a hurry go before batches; within a class consumers take turns, and each consumer's requests go in the order
in which they came. One that comes back because its replica was lost takes its old place. Every ticket gets exactly one
outcome per turn, through its `settle`; a ticket that went holds a place at its replica until `leave`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

from zerotide.activator.admission.choice import Choose
from zerotide.activator.admission.hall import Hall
from zerotide.activator.admission.line import Line
from zerotide.activator.admission.seats import Seat, Seats
from zerotide.activator.admission.tickets import Ticket, Turn
from zerotide.activator.admission.timers import NEVER, Timers
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


class Gate(Generic[R]):
    """Let requests through to replicas with room, hold the others within bounds, in order."""

    def __init__(self, bounds: Bounds, hall: Hall | None = None, namespace: str = "") -> None:
        self._bounds = bounds
        self._hall, self._namespace = hall or Hall(), namespace
        self._seats: Seats[R] = Seats()
        self._hurried: Line[R] = Line()
        self._batches: Line[R] = Line()
        self._timers: Timers[Ticket[R]] = Timers()
        self._review_at = math.inf
        self._numbers = 0
        self._away: dict[str, Seat[R]] = {}
        """Replicas that get nothing more and serve requests still: one that comes back is as busy as it was."""
        self._warm_since = -math.inf
        self.choose: Choose[Seat[R]] | None = None
        """How a replica is chosen for requests that have an affinity; by load alone where there is none."""
        self.held = 0
        self.held_bytes = 0

    @property
    def held_batches(self) -> int:
        """Return how many of the tickets that wait are in no hurry."""
        return self._batches.waiting

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
        """Yield the tickets that wait: by class, by consumer, in order."""
        yield from self._hurried
        yield from self._batches

    def enter(self, ticket: Ticket[R], now: float) -> None:
        """Let a ticket through, hold it, or refuse it with endpoint_cold, hold_timeout or what has no room for it."""
        self._numbers += 1
        ticket.number = self._numbers
        if not self.held and self._grant(ticket):
            return
        if self.cold and not self._bounds.holds:
            ticket.settle(Rejection(ErrorCode.ENDPOINT_COLD))
        else:
            self._hold_or_refuse(ticket, now)

    def come_back(self, ticket: Ticket[R], now: float) -> None:
        """Take a ticket whose replica was lost back to its old place, or refuse it as `enter` does."""
        self._leave_seat(ticket)
        ticket.since = now  # its time at a replica was no time of waiting
        if self.held or not self._grant(ticket):
            self._hold_or_refuse(ticket, now, again=True)
            self.pump()

    def leave(self, ticket: Ticket[R]) -> None:
        """Withdraw a ticket that waits, or end the visit of one that went; twice is harmless."""
        if ticket.turn is Turn.HELD:
            self._drop(ticket)
        elif ticket.turn is Turn.GONE:
            self._leave_seat(ticket)
            if self.held:
                self.pump()

    def turn_away(self, ticket: Ticket[R], rejection: Rejection) -> None:
        """Refuse a ticket that waits."""
        self._drop(ticket)
        ticket.settle(rejection)

    def open(self, key: str, replica: R, now: float) -> None:
        """Let requests through to one more replica."""
        if self.cold:
            self._warm_since = now
            self._review_at = min(self._review_at, now + self._bounds.busy_timeout)
        seat = self._away.pop(key, None)
        if seat is None or seat.replica is not replica:
            seat = Seat(key, replica)
        seat.limit = self._bounds.per_replica or math.inf
        self._seats.open(seat)
        self.pump()

    def close(self, key: str) -> None:
        """Send nothing more to a replica; requests that it serves stay there."""
        seat = self._seats.close(key)
        if seat is not None and seat.in_flight:
            self._away[key] = seat
        if seat is not None and self.cold:
            self._review_at = -math.inf

    def has_beside(self, key: str) -> bool:
        """Tell whether requests are let through to another replica than this one."""
        return len(self._seats) > (0 if self._seats.get(key) is None else 1)

    def rebound(self, bounds: Bounds) -> None:
        """Set new bounds; tickets that wait already stay."""
        if bounds == self._bounds:
            return
        self._bounds = bounds
        self._review_at = -math.inf
        for seat in self._seats.values():
            self._seats.limit(seat, bounds.per_replica or math.inf)
        self.pump()

    def refuse_all(self, rejection: Callable[[], Rejection]) -> None:
        """Turn away everyone who waits."""
        for ticket in list(self.waiting()):
            self.turn_away(ticket, rejection())

    def sweep(self, now: float, tick: float) -> None:
        """Turn away whose time is over before the next sweep in `tick` seconds, and beat for the others."""
        until = now + tick
        due = self._timers.due(until)
        for ticket in due:
            ticket.slot = NEVER
        if self._review_at < until:
            self._review_at = math.inf
            due = list(self.waiting())
        for ticket in due:
            if ticket.turn is not Turn.HELD:
                continue
            if self.deadline(ticket) < until:
                self.turn_away(ticket, self._late(ticket))
                continue
            if ticket.beat_at <= now:
                ticket.beat()
            self._set_timer(ticket, until)

    def deadline(self, ticket: Ticket[R]) -> float:
        """Return until when a ticket may wait: long while no replica is there, short while all are busy."""
        if self.cold:
            return min(ticket.limit, ticket.since + self._bounds.cold_timeout)
        return min(ticket.limit, max(ticket.since, self._warm_since) + self._bounds.busy_timeout)

    def pump(self) -> None:
        """Let through whom there is room for, in order."""
        while self.held:
            line = self._hurried if self._hurried.waiting else self._batches
            ticket = line.head()
            seat = self._best(ticket) if ticket is not None else None
            if ticket is None or seat is None:
                return
            self._forget(ticket)
            line.serve()
            self._seat(ticket, seat)

    def _grant(self, ticket: Ticket[R]) -> bool:
        seat = self._best(ticket)
        if seat is None:
            return False
        self._seat(ticket, seat)
        return True

    def _best(self, ticket: Ticket[R]) -> Seat[R] | None:
        best = self._seats.best()
        if best is not None and ticket.affinity and self.choose is not None:
            return self.choose(self._seats.values(), self._bounds.per_replica, ticket.affinity)
        return best

    def _seat(self, ticket: Ticket[R], seat: Seat[R]) -> None:
        self._seats.move(seat, 1)
        ticket.seat, ticket.turn = seat, Turn.GONE
        ticket.settle(seat)

    def _leave_seat(self, ticket: Ticket[R]) -> None:
        if ticket.seat is not None:
            self._seats.move(ticket.seat, -1)
            if not ticket.seat.open and not ticket.seat.in_flight and self._away.get(ticket.seat.key) is ticket.seat:
                del self._away[ticket.seat.key]
        ticket.seat, ticket.turn = None, Turn.OUTSIDE

    def _hold_or_refuse(self, ticket: Ticket[R], now: float, *, again: bool = False) -> None:
        bounds = self._bounds
        if self.deadline(ticket) <= now:
            ticket.settle(self._late(ticket))
            return
        if self.held >= bounds.max_requests or self.held_bytes + ticket.size > bounds.max_bytes:
            ticket.settle(Rejection(ErrorCode.QUEUE_FULL))
            return
        refusal = self._hall.enter(self._namespace, ticket.consumer, ticket.size)
        if refusal is not None:
            ticket.settle(refusal)
            return
        ticket.turn = Turn.HELD
        self.held += 1
        self.held_bytes += ticket.size
        self._set_timer(ticket, now)
        (self._batches if ticket.batch else self._hurried).join(ticket, again=again)

    def _set_timer(self, ticket: Ticket[R], soonest: float) -> None:
        self._timers.cancel(ticket, ticket.slot)
        ticket.slot = self._timers.set(ticket, max(min(self.deadline(ticket), ticket.beat_at), soonest))

    def _drop(self, ticket: Ticket[R]) -> None:
        self._forget(ticket)
        (self._batches if ticket.batch else self._hurried).leave(ticket)

    def _forget(self, ticket: Ticket[R]) -> None:
        """Hold a ticket no longer, but for its place in the line."""
        self._timers.cancel(ticket, ticket.slot)
        ticket.slot = NEVER
        ticket.turn = Turn.OUTSIDE
        self.held -= 1
        self.held_bytes -= ticket.size
        self._hall.leave(self._namespace, ticket.consumer, ticket.size)

    def _late(self, ticket: Ticket[R]) -> Rejection:
        at_once = ticket.limit <= ticket.arrived
        return Rejection(ErrorCode.ENDPOINT_COLD if self.cold and at_once else ErrorCode.HOLD_TIMEOUT)
