"""What is reserved of budgets, in a ledger: rows that are written in the transaction that looks at what is used."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from zerotide.billing.quotas import Hold, Holder
from zerotide.billing.rating import Period
from zerotide.billing.rollups import Usage, UsageKey


def hold_of(
    namespace: str, budget: str, pod: str, process: str, born_us: int, number: int, amount: int, until_us: int
) -> Hold:
    """Return the reservation of a row."""
    return Hold(namespace, budget, Holder(pod, process, born_us), number, amount, until_us)


Decide = Callable[[Sequence[Mapping[UsageKey, Usage]], int], int]
"""Return what is to be reserved, told the usage of each period and what all others have reserved."""


class Holds(Protocol):
    """The reservations of a ledger; raises StoreError."""

    def reserve(self, hold: Hold, periods: Sequence[Period], decide: Decide) -> bool:
        """Reserve what is decided instead of `hold.amount`; False, and nothing done, where a later ask came before.

        Nobody else reserves meanwhile, and no usage is recorded that `decide` is not told of.
        """

    def outlive(self, heir: Holder) -> None:
        """Forget what earlier processes had reserved in whose place a holder is."""

    def all(self) -> list[Hold]:
        """Return every reservation, those of nothing too."""

    def forget(self, holds: Sequence[Hold]) -> None:
        """Forget reservations that are still as given."""
