"""The replicas of one endpoint and how many requests each serves, the least loaded at hand at once.

Replicas with room are kept in lists by their load, so that finding and moving one takes a few steps whatever their
number. Load is what this activator sent there. Room is what all may send: seats that another activator has may be
free there, so they take room, but a choice by them would send everything to where nobody has any. Each activator
spreads its own requests evenly, and so all do.
"""

from __future__ import annotations

import math
from collections.abc import ValuesView
from itertools import islice
from typing import Generic, TypeVar

R = TypeVar("R")


class Seat(Generic[R]):
    """A replica, the requests that it serves now, and how many it may serve (infinity for any number)."""

    __slots__ = ("elsewhere", "in_flight", "key", "limit", "open", "replica")

    def __init__(self, key: str, replica: R, limit: float = math.inf) -> None:
        self.key = key
        self.replica = replica
        self.limit = limit
        self.in_flight = 0
        self.elsewhere = 0
        """Of these, what other activators send, or may send."""
        self.open = False
        """Whether it takes more requests when it has room."""

    @property
    def own(self) -> int:
        """Return how many of its requests come from this activator."""
        return self.in_flight - self.elsewhere


class Seats(Generic[R]):
    """All replicas that take requests."""

    def __init__(self) -> None:
        self._seats: dict[str, Seat[R]] = {}
        self._left: dict[str, Seat[R]] = {}
        """Closed ones that still serve."""
        self._levels: list[dict[Seat[R], None]] = [{}]
        self._least = 0
        """No seat with room has fewer requests."""

    def __len__(self) -> int:
        return len(self._seats)

    def get(self, key: str) -> Seat[R] | None:
        """Return a replica's seat."""
        return self._seats.get(key)

    def find(self, key: str) -> Seat[R] | None:
        """Return a replica's seat, also one that only ends what it serves."""
        return self._seats.get(key) or self._left.get(key)

    def serving(self) -> dict[str, int]:
        """Return the requests of every replica that serves any."""
        seats = (*self._seats.values(), *self._left.values())
        return {seat.key: seat.in_flight for seat in seats if seat.in_flight}

    def values(self) -> ValuesView[Seat[R]]:
        """Return all seats."""
        return self._seats.values()

    def open(self, key: str, replica: R, limit: float) -> Seat[R]:
        """Let requests through to a replica; what it serves still from before it was closed counts on."""
        self.close(key)
        seat = self._left.pop(key, None) or Seat(key, replica)
        seat.replica, seat.limit, seat.open = replica, limit, True
        self._seats[key] = seat
        self._list(seat)
        return seat

    def close(self, key: str) -> Seat[R] | None:
        """Send nothing more to a replica, and return its seat."""
        seat = self._seats.pop(key, None)
        if seat is not None:
            self._unlist(seat)
            seat.open = False
            if seat.in_flight:
                self._left[key] = seat
        return seat

    def move(self, seat: Seat[R], change: int) -> None:
        """Count requests that come to a replica, or end there."""
        if seat.open:
            # Written out here, for this happens twice for every request; else as in `away`.
            levels, at = self._levels, seat.in_flight - seat.elsewhere
            if seat.in_flight < seat.limit:
                del levels[at][seat]
            seat.in_flight += change
            if seat.in_flight < seat.limit:
                at += change
                while len(levels) <= at:
                    levels.append({})
                levels[at][seat] = None
                if at < self._least:
                    self._least = at
        else:
            seat.in_flight += change
            if not seat.in_flight:
                self._left.pop(seat.key, None)

    def away(self, seat: Seat[R], change: int, *, moved: bool = False) -> None:
        """Count what others send to a replica; `moved` where that was counted as this activator's until now."""
        self._unlist(seat)
        seat.elsewhere += change
        if not moved:
            seat.in_flight += change
        self._list(seat)
        if not seat.open and not seat.in_flight:
            self._left.pop(seat.key, None)

    def limit(self, seat: Seat[R], limit: float) -> None:
        """Set how many requests a replica may serve."""
        self._unlist(seat)
        seat.limit = limit
        self._list(seat)

    def best(self) -> Seat[R] | None:
        """Return the replica with room that has the fewest requests, None where none has room.

        Of those with as few, the two that were not used for longest, the one that others use less.
        """
        levels = self._levels
        for at in range(self._least, len(levels)):
            level = levels[at]
            if level:
                self._least = at
                first = next(iter(level))
                if len(level) == 1:
                    return first
                second = next(islice(level, 1, 2))
                return second if second.in_flight < first.in_flight else first
        self._least = len(levels)
        return None

    def _list(self, seat: Seat[R]) -> None:
        at, levels = seat.in_flight - seat.elsewhere, self._levels
        if seat.open and seat.in_flight < seat.limit:
            while len(levels) <= at:
                levels.append({})
            levels[at][seat] = None
            self._least = min(self._least, at)

    def _unlist(self, seat: Seat[R]) -> None:
        if seat.open and seat.in_flight < seat.limit:
            del self._levels[seat.in_flight - seat.elsewhere][seat]
