"""A member's side of a line that another one keeps: what is lent here, and what was asked for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from zerotide.activator.admission.gate import Gate
from zerotide.activator.admission.tickets import Ticket, Turn
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
from zerotide.api.errors import ErrorCode, Rejection


class Desk:
    """Ask the owner for seats and for room in the line; until it was told everything, nothing new is let through."""

    def __init__(
        self,
        key: str,
        gate: Gate[Any],
        send: Callable[[Message], None],
        epoch_of_us: Callable[[float], int],
    ) -> None:
        self.key, self._gate, self._send, self._epoch_of_us = key, gate, send, epoch_of_us
        self.reported = False
        self._recalled = False
        self._waiting: dict[int, Ticket[Any]] = {ticket.number: ticket for ticket in gate.waiting()}
        gate.follow(self)

    def report(self) -> None:
        """Tell the owner everything, at the beginning of a connection."""
        gate = self._gate
        self.reported, self._recalled = True, False
        used = gate.seats.serving()
        asks = [self._ask(ticket) for ticket in sorted(self._waiting.values())]
        self._send(Report(self.key, used, [seat.key for seat in gate.seats.values()], asks))

    def cut(self) -> None:
        """Use nothing but what is in use: the owner cannot be asked now."""
        if self.reported:
            self.reported = False
            self._gate.follow(self)

    def receive(self, message: Message) -> None:
        """Take in what the owner says."""
        if not self.reported:
            return
        match message:
            case Grant():
                self._grant(message)
            case Keep():
                ticket = self._waiting.get(message.number)
                if ticket is not None and not ticket.accepted:
                    ticket.accepted = True
                    ticket.confirm()
            case Refuse():
                ticket = self._waiting.get(message.number)
                if ticket is not None:
                    del self._waiting[message.number]
                    self._gate.turn_away(ticket, Rejection(_code(message.code), message.message))
            case Lease():
                self._recalled = False
                for replica, seats in message.seats.items():
                    self._gate.lend(replica, seats)
                    if self._gate.seats.get(replica) is None:
                        self._give_back(replica)
                self._gate.pump()
            case Recall():
                self._recalled = True
                for replica in list(self._gate.lent or ()):
                    self._give_back(replica)
            case NotMine():
                self.cut()

    def give_back_idle(self) -> None:
        """Give back all seats that are free."""
        if self.reported:
            for replica in list(self._gate.lent or ()):
                self._give_back(replica)

    # What the gate says

    def held(self, ticket: Ticket[Any]) -> None:
        """Ask for a request that waits."""
        self._waiting[ticket.number] = ticket
        if self.reported:
            self._send(self._ask(ticket))

    def dropped(self, ticket: Ticket[Any]) -> None:
        """Withdraw a request that waits no longer."""
        if self._waiting.pop(ticket.number, None) is not None and self.reported:
            self._send(Drop(self.key, ticket.number))

    def freed(self, key: str) -> None:
        """Keep the seat that a request left, unless the owner wants it, or chooses anew for each request."""
        if not self.reported:
            self._gate.lend(key, -1)
        elif self._recalled or self._gate.choose is not None or self._gate.seats.get(key) is None:
            self._give_back(key)

    def opened(self, key: str) -> None:
        """Tell of a replica."""
        if self.reported:
            self._send(Opened(self.key, key))

    def closed(self, key: str) -> None:
        """Tell that one is gone, and give back what is free there."""
        if self.reported:
            self._send(Closed(self.key, key))
            self._give_back(key)

    def _grant(self, grant: Grant) -> None:
        gate = self._gate
        gate.lend(grant.replica, 1)
        ticket = self._waiting.pop(grant.number, None)
        if ticket is not None and gate.admit(ticket, grant.replica):
            return
        if ticket is not None and ticket.turn is Turn.HELD:
            self._waiting[ticket.number] = ticket
            self._send(self._ask(ticket))
        if self._recalled or gate.seats.get(grant.replica) is None:
            self._give_back(grant.replica)
        gate.pump()

    def _give_back(self, key: str) -> None:
        gate = self._gate
        lent = (gate.lent or {}).get(key, 0)
        seat = gate.seats.find(key)
        free = lent - (seat.in_flight if seat is not None else 0)
        if free > 0:
            gate.lend(key, -free)
            self._send(Back(self.key, key, free))

    def _ask(self, ticket: Ticket[Any]) -> Ask:
        limit = None if ticket.limit > 1e15 else self._epoch_of_us(ticket.limit)
        return Ask(
            self.key,
            ticket.number,
            self._epoch_of_us(ticket.arrived),
            limit,
            ticket.size,
            ticket.consumer,
            ticket.batch,
            ticket.affinity,
            ticket.accepted,
        )


def _code(text: str) -> ErrorCode:
    try:
        return ErrorCode(text)
    except ValueError:
        return ErrorCode.QUEUE_FULL
