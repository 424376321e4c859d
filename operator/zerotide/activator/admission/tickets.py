"""A request's place: when it came, whose it is, how large it is, and until when it may wait."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from enum import Enum
from typing import ClassVar, Generic, TypeVar

from zerotide.activator.admission.seats import Seat, Seats
from zerotide.api.errors import Rejection

R = TypeVar("R")


class Turn(Enum):
    """Where a ticket is."""

    OUTSIDE = "outside"
    HELD = "held"
    GONE = "on its way to a replica"


class Ticket(ABC, Generic[R]):
    """One request at a gate; times in seconds. Who makes one says how it is told what became of it."""

    remote: ClassVar[bool] = False
    """Whether it stands for a request that another activator holds."""
    __slots__ = (
        "accepted",
        "affinity",
        "arrived",
        "batch",
        "beat_at",
        "consumer",
        "counted",
        "limit",
        "number",
        "seat",
        "since",
        "size",
        "slot",
        "turn",
    )

    def __init__(
        self,
        arrived: float,
        size: int = 0,
        longest: float = math.inf,
        consumer: str = "",
        batch: bool = False,
        affinity: int = 0,
    ) -> None:
        self.arrived = self.since = arrived
        """`arrived` gives the place in the line; `since` is from when on it has been waiting."""
        self.size = size
        self.limit = arrived + longest
        self.consumer = consumer
        self.batch = batch
        """Whether it goes after everyone who is in a hurry."""
        self.affinity = affinity
        """Requests of one affinity like to go to one replica; 0 for none."""
        self.number = 0
        self.turn = Turn.OUTSIDE
        self.seat: Seat[R] | None = None
        self.beat_at = math.inf
        """From when on it beats, for as long as it is held."""
        self.slot = -1
        """Where its timer is."""
        self.accepted = False
        """Whether there was room for it in the line, and it keeps that whoever keeps the line."""
        self.counted = False
        """Whether it counts within the bounds over all endpoints."""

    def pick(self, seats: Seats[R]) -> Seat[R] | None:
        """Return the seat it would take; one with room exists."""
        return seats.best()

    def confirm(self) -> None:
        """Hear that there is room for it in the line."""

    @abstractmethod
    def settle(self, outcome: Seat[R] | Rejection) -> None:
        """Take the outcome of a turn: once for each `enter` and `come_back`."""

    def beat(self) -> None:
        """Show that it is still held, and set `beat_at` anew."""
        self.beat_at = math.inf

    def __lt__(self, other: Ticket[R]) -> bool:
        return (self.arrived, self.number) < (other.arrived, other.number)
