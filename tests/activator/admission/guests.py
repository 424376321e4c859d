"""Requests of the tests, and what they were told."""

from __future__ import annotations

import math

from zerotide.activator.admission.seats import Seat
from zerotide.activator.admission.tickets import Ticket
from zerotide.api.errors import ErrorCode, Rejection


class Guest(Ticket[str]):
    """A request that remembers its outcomes."""

    def __init__(
        self, arrived: float = 0.0, size: int = 1, longest: float = 1000.0, consumer: str = "a", batch: bool = False
    ) -> None:
        super().__init__(arrived, size, longest, consumer, batch)
        self.told: list[Seat[str] | Rejection] = []
        self.turns = 1
        self.left = False
        self.beats = 0
        self.passed: dict[str, int] = {}
        """How often each consumer went while this one waited."""
        self.ahead = 0
        """How many of its own consumer waited when it came."""
        self.slack = 0
        """How many came back to the front of the line since."""

    def settle(self, outcome: Seat[str] | Rejection) -> None:
        """Remember."""
        self.told.append(outcome)

    def beat(self) -> None:
        """Count, and never beat again."""
        self.beats += 1
        self.beat_at = math.inf

    @property
    def codes(self) -> list[ErrorCode]:
        """Return the refusals it was told."""
        return [told.code for told in self.told if isinstance(told, Rejection)]

    @property
    def went(self) -> bool:
        """Tell whether the newest thing it was told is a seat."""
        return bool(self.told) and isinstance(self.told[-1], Seat)
