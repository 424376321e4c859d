"""How much of what costs us and brings no request a peer may send: an allowance that grows with time and with work."""

from __future__ import annotations


class Allowance:
    """A number that is spent, and earned again with time up to `most`; times in seconds."""

    __slots__ = ("_at", "_left", "_most", "_rate")

    def __init__(self, most: float, rate: float, now: float) -> None:
        """`rate` is what is earned in a second."""
        self._most, self._rate = most, rate
        self._left, self._at = most, now

    def spend(self, count: int, now: float) -> bool:
        """Take `count`; tell whether there was as much."""
        self._left = min(self._most, self._left + max(now - self._at, 0.0) * self._rate) - count
        self._at = now
        return self._left >= 0

    def earn(self, count: int) -> None:
        """Give back for work that was done."""
        self._left = min(self._most, self._left + count)
