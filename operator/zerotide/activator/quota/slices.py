"""The slice of a budget that this process has: what of it requests hold, what is used, what is free.

Amounts are tokens, or billionths of a currency by a tariff: whatever the exporter says that is limited.

What is used stays reserved until the ledger has it, so that the exporter never counts it in neither place.
"""

from __future__ import annotations

import math
from collections import deque
from typing import NamedTuple

from zerotide.activator.usage.lines import NOWHERE, Mark
from zerotide.api.quota import cost_of


class Use(NamedTuple):
    """Tokens that come, tokens that are made, and requests: what is used up of any budget."""

    input: int
    output: int
    requests: int = 0

    def plus(self, other: Use) -> Use:
        """Return the sum of both."""
        return Use(self.input + other.input, self.output + other.output, self.requests + other.requests)

    def cost(self, tariff: tuple[int, int, int]) -> int:
        """Return as what it is reserved."""
        return cost_of(self, tariff)


TOKENS = (1, 1, 0)
"""The tariff of a budget of tokens."""


class Slice:
    """One budget's slice; `good_until` in seconds of the monotonic clock."""

    __slots__ = ("_nowhere", "_told", "_unshipped", "amount", "good_until", "held", "taken", "tariff", "unshipped")

    def __init__(self) -> None:
        self.tariff: tuple[int, int, int] | None = None
        """As what a token that comes, a token that is made and a request are reserved, None where that is not known."""
        self.amount = 0
        """What the exporter has reserved at least."""
        self.held = 0
        """What requests under way have reserved."""
        self.unshipped = 0
        """What is used, and not in the ledger as far as is known here."""
        self._unshipped: deque[tuple[Mark, int]] = deque()
        self._nowhere = 0
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

    def take(self, use: Use, now: float) -> int | None:
        """Reserve for a request, and return how much; None, and nothing done, where it is too much or this too old."""
        if self.tariff is None or now >= self.good_until:
            return None
        amount = use.cost(self.tariff)
        if amount > self.free:
            return None
        self.held += amount
        self.taken += amount
        return amount

    def settle(self, reserved: int, use: Use, mark: Mark) -> None:
        """End a request: what it used stays reserved until the log is in the ledger up to a mark."""
        self.held -= reserved
        used = use.cost(self.tariff or TOKENS)
        if used:
            self.unshipped += used
            self._unshipped.append((mark, used))
            self._nowhere += mark == NOWHERE

    @property
    def nowhere(self) -> bool:
        """Tell whether it keeps what had no place in the log yet."""
        return self._nowhere > 0

    def place(self, mark: Mark) -> None:
        """Tell that all that was used lies before a mark: the disk has taken what it did not take at first."""
        self._nowhere = 0
        self._unshipped = deque((min(each, mark), used) for each, used in self._unshipped)

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

    def renew(self, amount: int, tariff: tuple[int, int, int] | None, good_until: float) -> None:
        """Take in what the exporter has reserved, told that `ask` keeps so much."""
        self.amount, self.tariff, self.good_until = amount - self._told, tariff, good_until
