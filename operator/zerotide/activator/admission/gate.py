"""The gate of one endpoint: who goes to which replica now, who waits, and who is turned away.

Those in a hurry go before batches; within a class consumers take turns, and each consumer's requests go in the order
in which they came. One that comes back because its replica was lost takes its old place. Every ticket gets exactly one
outcome per turn, through its `settle`; a ticket that went holds a place at its replica until `leave`.

Where several activators act as one, the gate of one of them keeps the line for all (its `host` hears when somebody
waits; seats that others use are `away`), and the others' gates let through what they are lent and hold the rest for
the owner to decide (`desk`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

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
    """The bounds of one endpoint; times in seconds."""

    max_requests: int
    max_bytes: int
    per_replica: int
    """Requests in flight per replica, 0 for any number."""
    cold_timeout: float
    busy_timeout: float
    holds: bool = True


class Desk(Protocol):
    """Where a gate that does not keep the line itself says what happens."""

    def held(self, ticket: Ticket[Any]) -> None:
        """Hear that a ticket waits."""

    def dropped(self, ticket: Ticket[Any]) -> None:
        """Hear that it waits no longer."""

    def freed(self, key: str) -> None:
        """Hear that a request ended at a replica."""

    def opened(self, key: str) -> None:
        """Hear of a replica."""

    def closed(self, key: str) -> None:
        """Hear that one takes no more."""


class Gate(Generic[R]):
    """Let requests through to replicas with room, hold the others within bounds, in order."""

    def __init__(self, bounds: Bounds, hall: Hall | None = None, namespace: str = "") -> None:
        self._bounds = bounds
        self._hall, self._namespace = hall or Hall(), namespace
        self.seats: Seats[R] = Seats()
        self._hurried: Line[R] = Line()
        self._batches: Line[R] = Line()
        self._timers: Timers[Ticket[R]] = Timers()
        self._review_at = math.inf
        self._numbers = 0
        self._warm_since = -math.inf
        self.choose: Choose[Seat[R]] | None = None
        """How a replica is chosen for requests that have an affinity; by load alone where there is none."""
        self.held = 0
        self.held_bytes = 0
        self.guests = 0
        self.guest_bytes = 0
        """Of what is held, what other activators hold."""
        self.reserved = (0, 0)
        """Requests and bytes that others may hold beyond these."""
        self.host: Callable[[], None] | None = None
        """Called when somebody waits although replicas are there."""
        self.desk: Desk | None = None
        self.lent: dict[str, int] | None = None
        """How many requests each replica may serve by word of the line's owner, None where that is this gate."""
        self._away: dict[str, int] = {}
        self._parked: set[Ticket[R]] = set()

    @property
    def held_batches(self) -> int:
        """Return how many of the tickets that wait are in no hurry."""
        return self._batches.waiting

    @property
    def busy(self) -> bool:
        """Tell whether a ticket waits or is on its way to a replica."""
        return self.held > 0 or any(seat.own > 0 for seat in self.seats.values())

    @property
    def cold(self) -> bool:
        """Tell whether there is no replica."""
        return not self.seats

    @property
    def bounds(self) -> Bounds:
        """Return the bounds."""
        return self._bounds

    def waiting(self) -> Iterator[Ticket[R]]:
        """Yield the tickets that wait: by class, by consumer, in order."""
        yield from self._hurried
        yield from self._batches
        yield from self._parked

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

    def take_over(self, ticket: Ticket[R], now: float) -> None:
        """Hold a ticket for which there was room already."""
        self._numbers += 1
        ticket.number = self._numbers
        ticket.accepted = True
        self._hold(ticket, now)

    def pass_through(self, affinity: int) -> Seat[R] | None:
        """Return a seat that is taken without a ticket, None where somebody waits or no replica has room."""
        seat = None if self.held else self.seats.best()
        if seat is None:
            return None
        if affinity and self.choose is not None:
            seat = self._chosen(self.choose, affinity)
            if seat is None:
                return None
        self.seats.move(seat, 1)
        return seat

    def seated(self, ticket: Ticket[R], seat: Seat[R]) -> None:
        """Give a seat that was taken without a ticket to one."""
        self._numbers += 1
        ticket.number = self._numbers
        ticket.seat, ticket.turn = seat, Turn.GONE

    def give_back(self, seat: Seat[R]) -> None:
        """End the visit of a request that has a seat without a ticket."""
        self.seats.move(seat, -1)
        if self.desk is not None:
            self.desk.freed(seat.key)
        if self.held:
            self.pump()

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
        known = self.seats.find(key)
        seat = self.seats.open(key, replica, self._limit(key))
        if known is None and key in self._away:
            self.seats.away(seat, self._away[key])
        if self.desk is not None:
            self.desk.opened(key)
        self.pump()

    def close(self, key: str) -> None:
        """Send nothing more to a replica; requests that it serves stay there."""
        if self.seats.close(key) is None:
            return
        if self.cold:
            self._review_at = -math.inf
        if self.desk is not None:
            self.desk.closed(key)

    def has_beside(self, key: str) -> bool:
        """Tell whether requests are let through to another replica than this one."""
        return len(self.seats) > (0 if self.seats.get(key) is None else 1)

    def rebound(self, bounds: Bounds) -> None:
        """Set new bounds; tickets that wait already stay."""
        if bounds != self._bounds:
            self._bounds = bounds
            self._review_at = -math.inf
            self._relimit()

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
        if self._parked:
            self.unpark()

    def deadline(self, ticket: Ticket[R]) -> float:
        """Return until when a ticket may wait: long while no replica is there, short while all are busy."""
        if self.cold:
            return min(ticket.limit, ticket.since + self._bounds.cold_timeout)
        return min(ticket.limit, max(ticket.since, self._warm_since) + self._bounds.busy_timeout)

    def pump(self) -> None:
        """Let through whom there is room for, in order."""
        while self.held > len(self._parked):
            line = self._hurried if self._hurried.waiting else self._batches
            ticket = line.head()
            seat = self._best(ticket) if ticket is not None else None
            if ticket is None or (seat is None and self.seats.best() is None):
                break
            if seat is None:
                line.serve()
                self._parked.add(ticket)
                continue
            self._forget(ticket)
            line.serve()
            self._seat(ticket, seat)
        if self.held and self.host is not None:
            self.host()

    # Several gates that act as one

    def unpark(self) -> None:
        """Put those in line again for whom the replicas with room could not be used."""
        parked, self._parked = self._parked, set()
        for ticket in parked:
            (self._batches if ticket.batch else self._hurried).join(ticket)
        self.pump()

    def away(self, key: str, change: int, *, moved: bool = False) -> None:
        """Count seats at a replica that another activator uses; `moved` where they were counted at the seat already."""
        self._away[key] = self._away.get(key, 0) + change
        if not self._away[key]:
            del self._away[key]
        seat = self.seats.find(key)
        if seat is not None:
            self.seats.away(seat, change, moved=moved)

    def lend(self, key: str, change: int) -> None:
        """Take note of seats at a replica that the line's owner gave, or got back."""
        assert self.lent is not None, "only a gate without the line is lent seats"
        self.lent[key] = self.lent.get(key, 0) + change
        if not self.lent[key]:
            del self.lent[key]
        seat = self.seats.get(key)
        if seat is not None:
            self.seats.limit(seat, self._limit(key))

    def admit(self, ticket: Ticket[R], key: str) -> bool:
        """Let a ticket that waits through to a replica; False where that is not there."""
        seat = self.seats.get(key)
        if seat is None or ticket.turn is not Turn.HELD:
            return False
        self._drop(ticket)
        self._seat(ticket, seat)
        return True

    def follow(self, desk: Desk | None) -> None:
        """Let nothing new through until seats are lent; `desk` None waits until the others' seats are known."""
        self.desk = desk
        self.lent = self.seats.serving()
        for ticket in self.waiting() if desk is not None else ():
            if ticket.counted:
                ticket.counted = False
                self._hall.leave(self._namespace, ticket.consumer, ticket.size)
        self._relimit()

    def lead(self) -> None:
        """Keep the line; whoever came while that was not sure stays if there is room."""
        self.desk = self.lent = None
        self._relimit()
        unsure = sorted(ticket for ticket in self.waiting() if not ticket.accepted)
        while unsure and self._overfull():
            self.turn_away(unsure.pop(), Rejection(ErrorCode.QUEUE_FULL))
        for ticket in unsure:
            refusal = self._hall.refusal(self._namespace, ticket.consumer, ticket.size)
            if refusal is not None:
                self.turn_away(ticket, refusal)
            else:
                self._accept(ticket)
        for ticket in self.waiting():
            self._accept(ticket)

    def _overfull(self) -> bool:
        requests, size = self.reserved
        return self.held + requests > self._bounds.max_requests or self.held_bytes + size > self._bounds.max_bytes

    def _limit(self, key: str) -> float:
        if self.lent is not None:
            return self.lent.get(key, 0)
        return self._bounds.per_replica or math.inf

    def _relimit(self) -> None:
        for seat in self.seats.values():
            self.seats.limit(seat, self._limit(seat.key))
        self.pump()

    # Steps

    def _grant(self, ticket: Ticket[R]) -> bool:
        seat = self._best(ticket)
        if seat is None:
            return False
        self._seat(ticket, seat)
        return True

    def _best(self, ticket: Ticket[R]) -> Seat[R] | None:
        best = self.seats.best()
        if best is None:
            return None
        if ticket.remote:
            return ticket.pick(self.seats)
        if ticket.affinity and self.choose is not None:
            return self._chosen(self.choose, ticket.affinity)
        return best

    def _chosen(self, choose: Choose[Seat[R]], affinity: int) -> Seat[R] | None:
        chosen = choose(self.seats.values(), self._bounds.per_replica, affinity)
        return chosen if chosen is not None and chosen.in_flight < chosen.limit else None

    def _seat(self, ticket: Ticket[R], seat: Seat[R]) -> None:
        self.seats.move(seat, 1)
        ticket.seat, ticket.turn = seat, Turn.GONE
        ticket.settle(seat)

    def _leave_seat(self, ticket: Ticket[R]) -> None:
        seat = ticket.seat
        ticket.seat, ticket.turn = None, Turn.OUTSIDE
        if seat is not None:
            self.seats.move(seat, -1)
            if self.desk is not None:
                self.desk.freed(seat.key)

    def _hold_or_refuse(self, ticket: Ticket[R], now: float, *, again: bool = False) -> None:
        if self.deadline(ticket) <= now and (self.desk is None or self.cold):
            ticket.settle(self._late(ticket))
            return
        refusal = self._full(ticket) if self.lent is None else None
        if refusal is not None:
            ticket.settle(refusal)
            return
        self._hold(ticket, now, again=again)

    def _full(self, ticket: Ticket[R]) -> Rejection | None:
        """Return why there is no room for a ticket."""
        bounds, (requests, size) = self._bounds, self.reserved
        if self.held + requests >= bounds.max_requests or self.held_bytes + size + ticket.size > bounds.max_bytes:
            return Rejection(ErrorCode.QUEUE_FULL)
        return self._hall.refusal(self._namespace, ticket.consumer, ticket.size)

    def _hold(self, ticket: Ticket[R], now: float, *, again: bool = False) -> None:
        ticket.turn = Turn.HELD
        self.held += 1
        self.held_bytes += ticket.size
        if ticket.remote:
            self.guests += 1
            self.guest_bytes += ticket.size
        self._set_timer(ticket, now)
        (self._batches if ticket.batch else self._hurried).join(ticket, again=again)
        if self.desk is not None:
            self.desk.held(ticket)
        elif self.lent is None or ticket.accepted:
            self._accept(ticket)
        if self.host is not None:
            self.host()

    def _accept(self, ticket: Ticket[R]) -> None:
        if not ticket.counted:
            ticket.counted = True
            self._hall.count(self._namespace, ticket.consumer, ticket.size)
        if not ticket.accepted:
            ticket.accepted = True
            ticket.confirm()

    def _set_timer(self, ticket: Ticket[R], soonest: float) -> None:
        self._timers.cancel(ticket, ticket.slot)
        ticket.slot = self._timers.set(ticket, max(min(self.deadline(ticket), ticket.beat_at), soonest))

    def _drop(self, ticket: Ticket[R]) -> None:
        self._forget(ticket)
        if ticket in self._parked:
            self._parked.discard(ticket)
        else:
            (self._batches if ticket.batch else self._hurried).leave(ticket)

    def _forget(self, ticket: Ticket[R]) -> None:
        """Hold a ticket no longer, but for its place in the line."""
        self._timers.cancel(ticket, ticket.slot)
        ticket.slot = NEVER
        ticket.turn = Turn.OUTSIDE
        ticket.accepted = False
        self.held -= 1
        self.held_bytes -= ticket.size
        if ticket.remote:
            self.guests -= 1
            self.guest_bytes -= ticket.size
        if ticket.counted:
            ticket.counted = False
            self._hall.leave(self._namespace, ticket.consumer, ticket.size)
        if self.desk is not None:
            self.desk.dropped(ticket)

    def _late(self, ticket: Ticket[R]) -> Rejection:
        at_once = ticket.limit <= ticket.arrived
        return Rejection(ErrorCode.ENDPOINT_COLD if self.cold and at_once else ErrorCode.HOLD_TIMEOUT)
