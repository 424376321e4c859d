"""What activators and the exporter say to each other of quota slices: parts of budgets that are reserved ahead.

An activator posts an `Ask` to `/internal/quota`: of each budget, what it keeps, what requests wait for, and what it
would like to spare. The exporter answers with a `Grant` for each, in the order of the asks. Amounts are tokens, or
billionths of a currency where the budget is of money: then the grant says as what a token and a request are reserved.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from zerotide.api.lines import Count, Line, Us

PATH = "/internal/quota"
MOST_ASKS = 256
"""Budgets that one ask may be about."""
MOST_NEEDS = 256
"""Requests that wait for one budget that one ask may name."""
MOST = 2**60
"""The largest amount that is written down, which a ledger's integers hold."""
UNITS = 10**9
"""Parts of a currency in which money is reserved."""
TTL_S = 10.0
"""Seconds for which a slice is good that is not renewed."""

Tokens = tuple[Count, Count, Count]
"""Tokens that come, tokens that are made, and requests."""
_Name = Annotated[str, Field(max_length=63)]


def cost_of(tokens: tuple[int, int, int], tariff: tuple[int, int, int]) -> int:
    """Return as what tokens that come, tokens that are made and requests are reserved."""
    return sum(number * price for number, price in zip(tokens, tariff, strict=True))


class Wish(Line):
    """What an activator wants of a budget."""

    namespace: _Name
    budget: Annotated[str, Field(max_length=253)]
    keep: Count
    """What it has and goes on to need: reserved for requests, or used and not in the ledger for all it knows."""
    needs: Annotated[tuple[Count, ...], Field(max_length=MOST_NEEDS)] = ()
    """What waiting requests need more, each all of it or nothing; in tokens where it is not known what is limited."""
    wants: Annotated[tuple[Tokens, ...], Field(max_length=MOST_NEEDS)] = ()
    """The same as it is before it is money, where the budget may be of money."""
    spare: Count = 0
    """What it would like to have beyond that, for requests that come."""


class Ask(Line):
    """What an activator wants of budgets; of two asks of a process the one with the higher number holds."""

    pod: Annotated[str, Field(max_length=253)]
    process: Annotated[str, Field(max_length=16)]
    """Which of the pod's processes."""
    born_us: Us
    """When the process began, by which it is told apart from those that died before it."""
    number: Us
    inherited: bool
    """Whether all usage that earlier processes left behind is in the ledger by now, so that their slices are over."""
    wishes: Annotated[tuple[Wish, ...], Field(max_length=MOST_ASKS)]


class Grant(Line):
    """What an activator has of a budget from now on, None where no such budget is known."""

    amount: Count | None
    left: Count = 0
    """What nobody has used or reserved."""
    limit: Count = 0
    resets: Annotated[str, Field(max_length=64)] = ""
    """When the budget begins anew, empty for never."""
    tariff: Tokens | None = None
    """What a token that comes, a token that is made and a request are reserved as, None where tokens are limited."""
    currency: Annotated[str, Field(max_length=3)] = ""
    """Of what amounts are billionths, empty where they are tokens."""
    reason: Annotated[str, Field(max_length=256)] = ""
    """Why nothing can be reserved, where that is not the exporter's silence."""


class Grants(Line):
    """The answer to an ask, in its order; None for one that a later ask has overtaken."""

    grants: tuple[Grant, ...] | None
