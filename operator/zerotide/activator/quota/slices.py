"""The slice of a budget that this process has: what of it requests hold, what is used, what is free.

What is used stays reserved until the ledger has it, so that the exporter never counts it in neither place.
"""

from __future__ import annotations

import math
from collections import deque

from zerotide.activator.usage.lines import Mark


class Slice:
    """One budget's slice; amounts in tokens, `good_until` in seconds of the monotonic clock."""

    __slots__ = ("_told", "_unshipped", "amount", "good_until", "held", "taken", "unshipped")

    def __init__(self) -> None:
        self.amount = 0
        """What the exporter has reserved at least."""
        self.held = 0
        """What requests under way have reserved."""
        self.unshipped = 0
        """What is used, and not in the ledger as far as is known here."""
        self._unshipped: deque[tuple[Mark, int]] = deque()
        self._told = 0
        """What the ledger got to have since it was asked."""
        self.good_until = -math.inf
        self.taken = 0
        """What was taken since it was renewed."""

    @property
    def kept(self) -> int:
        """Return what must stay reserved."""
        return self.held + self.unshipped

    @property
    def free(self) -> int:
        """Return what a request may take."""
        return max(self.amount - self.kept, 0)

    def take(self, tokens: int, now: float) -> bool:
        """Reserve for a request; False, and nothing done, where that is too much, or the slice too old."""
        if tokens > self.free or now >= self.good_until:
            return False
        self.held += tokens
        self.taken += tokens
        return True

    def settle(self, reserved: int, used: int, mark: Mark) -> None:
        """End a request: what it used stays reserved until the log is in the ledger up to a mark."""
        self.held -= reserved
        if used:
            self.unshipped += used
            self._unshipped.append((mark, used))

    def shipped(self, mark: Mark) -> None:
        """The ledger has everything of the log before a mark: that is used, and no reservation any more."""
        while self._unshipped and self._unshipped[0][0] <= mark:
            used = self._unshipped.popleft()[1]
            self.unshipped -= used
            self.amount -= used
            self._told += used

    def ask(self, spare: int) -> tuple[int, int]:
        """Return what is kept of it, and what is wished beyond, in order to have so much free.

        From now on only that is sure: the answer may be lost, and the ask too.
        """
        self.amount = self.kept + min(self.free, spare)
        self.taken = self._told = 0
        return self.amount, max(self.kept + spare - self.amount, 0)

    def renew(self, amount: int, good_until: float) -> None:
        """Take in what the exporter has reserved, told that `ask` keeps so much."""
        self.amount, self.good_until = amount - self._told, good_until
