"""Quota slices: parts of a budget that are reserved before they are used, so that it is never passed.

The law: what the ledger says is used, and what anybody has reserved, are never more than the limit, but where usage
was larger than what was reserved for it. A holder keeps reserved what it has used until the ledger has it, so nothing
is ever in neither of the two.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from zerotide.api.budget import BudgetWindow
from zerotide.api.scalars import SECOND
from zerotide.billing.budgets import EVER, window_of
from zerotide.billing.rating import Period
from zerotide.billing.rollups import QUARTER

PART = 16
"""One holder may spare one part in so many of what is left, so that nobody's idle slice locks others out."""
SKEW_US = 2 * SECOND
"""By how much clocks may differ: so near to the edge of a window, both windows must have room."""


class Holder(NamedTuple):
    """A process of an activator's pod, told apart by its birth from those that died before it."""

    pod: str
    process: str
    born_us: int


class Hold(NamedTuple):
    """What somebody has reserved of a budget, until it says otherwise; of two, the one with the higher number holds."""

    namespace: str
    budget: str
    holder: Holder
    number: int
    amount: int
    until_us: int
    """From when on it is looked whether its holder is still there."""


class Room(NamedTuple):
    """What a holder gets of a budget in all, and what is left for everybody."""

    amount: int
    left: int


def room(limit: int, used: int, others: int, keep: int, needs: Sequence[int], spare: int) -> Room:
    """Return what a holder gets: what it keeps, each need that fits, in their order, and something to spare.

    What is kept was granted before and may be used by now, so it is granted even where it is more than there is.
    """
    left = max(limit - used - others - keep, 0)
    more = 0
    for need in needs:
        if need <= left - more:
            more += need
    more += min(spare, (left - more) // PART)
    return Room(keep + more, left - more)


def windows_at(window: BudgetWindow, now_us: int) -> tuple[Period, ...]:
    """Return the windows that may hold an instant, each as far as usage could have come. Raises UnknownZone."""
    found = {window_of(window, now_us - SKEW_US): None, window_of(window, now_us + SKEW_US): None}
    horizon = (now_us // QUARTER + 4) * QUARTER
    return tuple(Period(each.start_us, min(each.end_us, horizon)) for each in found)


def resets(window: BudgetWindow, now_us: int) -> int | None:
    """Return when a budget begins anew, None for never. Raises UnknownZone."""
    end_us = window_of(window, now_us).end_us
    return end_us if end_us < EVER else None
