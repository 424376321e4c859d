"""The owner's side: one line for the requests of all members, and an account of the seats that each uses."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, ClassVar

from zerotide.activator.admission.gate import Gate
from zerotide.activator.admission.seats import Seat, Seats
from zerotide.activator.admission.tickets import Ticket, Turn
from zerotide.activator.council.epoch import Epoch
from zerotide.activator.council.messages import (
    Ask,
    Back,
    Closed,
    Drop,
    Grant,
    Keep,
    Lease,
    Message,
    NotMine,
    Opened,
    Recall,
    Refuse,
    Report,
)
from zerotide.api.errors import Rejection

BATCH = 16
"""Seats that are lent at once beyond what was asked for, over all replicas; of many one each."""


class Party:
    """A member as the owner knows it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.open: set[str] = set()
        self.lent: dict[str, int] = {}
        self.asks: dict[int, Proxy] = {}
        self.recalled = False
        self.away = False
        """Whether it cannot be reached."""
        self.reserved = (0, 0)
        """What it may hold by itself while it cannot be reached."""


class Proxy(Ticket[Any]):
    """A request that waits at another member."""

    remote: ClassVar[bool] = True
    __slots__ = ("asked", "owner", "party")

    def __init__(self, owner: Owner, party: Party, ask: Ask, arrived: float, longest: float) -> None:
        super().__init__(arrived, ask.size, longest, ask.consumer, ask.batch, ask.affinity)
        self.owner, self.party, self.asked = owner, party, ask.number

    def settle(self, outcome: Seat[Any] | Rejection) -> None:
        """Tell its member."""
        self.owner.settled(self, outcome)

    def pick(self, seats: Seats[Any]) -> Seat[Any] | None:
        """Return the seat that its member can reach and has fewest of, unless it has an affinity.

        A member that asks has used up what it was lent, so that is the load it makes.
        """
        gate, lent = self.owner.gate, self.party.lent
        reachable = [seat for seat in seats.values() if seat.key in self.party.open]
        if self.affinity and gate.choose is not None:
            chosen = gate.choose(reachable, gate.bounds.per_replica, self.affinity)
            return chosen if chosen is not None and chosen.in_flight < chosen.limit else None
        usable = (seat for seat in reachable if seat.in_flight < seat.limit)
        return min(usable, key=lambda seat: (lent.get(seat.key, 0), seat.in_flight), default=None)

    def confirm(self) -> None:
        """Tell its member that it may stay."""
        self.owner.send(self.party.name, Keep(self.owner.key, self.asked))


class Owner:
    """Keep an endpoint's line; nothing new is let through until every member in `awaited` has reported or is gone."""

    def __init__(
        self,
        key: str,
        gate: Gate[Any],
        send: Callable[[str, Message], None],
        epoch: Epoch,
        awaited: Iterable[str],
    ) -> None:
        self.key, self.gate, self.send, self._epoch = key, gate, send, epoch
        self.awaited = set(awaited)
        self.parties: dict[str, Party] = {}
        gate.host = self._somebody_waits
        if self.awaited:
            gate.follow(None)
        else:
            gate.lead()

    def receive(self, member: str, message: Message, now: float) -> None:
        """Take in what a member says."""
        if isinstance(message, Report):
            self._report(member, message, now)
            return
        party = self.parties.get(member)
        if party is None:
            self.send(member, NotMine(self.key))
            return
        match message:
            case Ask():
                self._ask(party, message, now)
            case Drop():
                proxy = party.asks.pop(message.number, None)
                if proxy is not None:
                    self.gate.leave(proxy)
            case Back():
                self._back(party, message.replica, message.seats)
                self.gate.pump()
            case Opened():
                party.open.add(message.replica)
                self.gate.unpark()
            case Closed():
                party.open.discard(message.replica)

    def wait_for(self, members: Iterable[str]) -> None:
        """Let nothing new through until these have reported as well."""
        self.awaited |= {name for name in members if name not in self.parties}
        if self.awaited and self.gate.lent is None:
            self.gate.follow(None)

    def settled(self, proxy: Proxy, outcome: Seat[Any] | Rejection) -> None:
        """Tell a member what became of its request."""
        party = proxy.party
        party.asks.pop(proxy.asked, None)
        if isinstance(outcome, Seat):
            self.gate.away(outcome.key, 1, moved=True)
            party.lent[outcome.key] = party.lent.get(outcome.key, 0) + 1
            self.send(party.name, Grant(self.key, proxy.asked, outcome.key))
        else:
            self.send(party.name, Refuse(self.key, proxy.asked, outcome.code.value, outcome.message))

    def lost(self, member: str, seats: int, held: tuple[int, int]) -> None:
        """Leave a member that cannot be reached its shares, or what it had where that is more."""
        party = self._forget(member, keep_seats=True)
        for key in {seat.key for seat in self.gate.seats.values()} if seats else ():
            more = seats - party.lent.get(key, 0)
            if more > 0:
                party.lent[key] = seats
                self.gate.away(key, more)
        party.reserved = (max(held[0], party.reserved[0]), max(held[1], party.reserved[1]))
        party.away = True
        self._reserve()
        self._heard(member)

    def gone(self, member: str) -> None:
        """Forget a member that is no more, and let others have what it used."""
        self._forget(member)
        self.parties.pop(member, None)
        self._reserve()
        self._heard(member)

    def resign(self) -> None:
        """Keep the line no longer: forget the others' requests, which they will report to the new owner."""
        self.gate.host = None
        for name in list(self.parties):
            self._forget(name)
            self.send(name, NotMine(self.key))
        self.parties.clear()
        self.gate.reserved = (0, 0)

    def _report(self, member: str, report: Report, now: float) -> None:
        self._forget(member)
        party = self.parties[member] = Party(member)
        party.open = set(report.open)
        self._reserve()
        for key, seats in report.used.items():
            if seats > 0:
                party.lent[key] = seats
                self.gate.away(key, seats)
        for ask in report.asks:
            self._ask(party, ask, now)
        self._heard(member)
        self._somebody_waits()

    def _heard(self, member: str) -> None:
        self.awaited.discard(member)
        if not self.awaited and self.gate.lent is not None:
            self.gate.lead()
        else:
            self.gate.pump()

    def _ask(self, party: Party, ask: Ask, now: float) -> None:
        arrived = min(self._epoch.at(ask.arrived_us), now)
        longest = float("inf") if ask.limit_us is None else (ask.limit_us - ask.arrived_us) / 1e6
        proxy = Proxy(self, party, ask, arrived, longest)
        party.asks[ask.number] = proxy
        if ask.accepted:
            self.gate.take_over(proxy, now)
            self.gate.pump()
            return
        self.gate.enter(proxy, now)
        if proxy.turn is Turn.GONE and not self.gate.held and proxy.seat is not None:
            self._lend(party)

    def _lend(self, party: Party) -> None:
        """Let a member have more seats than it asked for, so that it need not ask for each request.

        Of every replica alike, since a member can only choose among what it has. Not where requests choose by
        affinity: seats that are free elsewhere would look like load to all others.
        """
        if self.gate.choose is not None:
            return
        usable = [seat for seat in self.gate.seats.values() if seat.key in party.open]
        given = {}
        for seat in usable:
            free = seat.limit - seat.in_flight
            seats = int(min(free / (len(self.parties) + 1), math.ceil(BATCH / len(usable))))
            if seats > 0:
                given[seat.key] = seats
                party.lent[seat.key] = party.lent.get(seat.key, 0) + seats
                self.gate.away(seat.key, seats)
        if given:
            party.recalled = False
            self.send(party.name, Lease(self.key, given))

    def _back(self, party: Party, replica: str, seats: int) -> None:
        seats = min(seats, party.lent.get(replica, 0))
        if seats > 0:
            party.lent[replica] -= seats
            if not party.lent[replica]:
                del party.lent[replica]
            self.gate.away(replica, -seats)

    def _somebody_waits(self) -> None:
        """Call back what others may have free."""
        if not self.gate.held or self.gate.cold:
            return
        for party in self.parties.values():
            if party.lent and not party.recalled:
                party.recalled = True
                self.send(party.name, Recall(self.key))

    def _forget(self, member: str, *, keep_seats: bool = False) -> Party:
        party = self.parties.get(member)
        if party is None:
            party = self.parties[member] = Party(member)
        asks, party.asks = list(party.asks.values()), {}
        if not keep_seats:
            party.reserved = (0, 0)
        elif not party.away:
            party.reserved = (len(asks), sum(proxy.size for proxy in asks))
        for key, seats in list(party.lent.items()) if not keep_seats else ():
            self._back(party, key, seats)
        party.open.clear()
        for proxy in asks:
            self.gate.leave(proxy)
        return party

    def _reserve(self) -> None:
        parties = self.parties.values()
        self.gate.reserved = (sum(each.reserved[0] for each in parties), sum(each.reserved[1] for each in parties))
