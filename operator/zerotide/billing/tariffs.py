"""What tokens and requests cost, as budgets of money reserve it: never less than the bill says.

A tariff is in whole billionths of the currency, rounded up, at the highest price that the book knows for the time in
which what is reserved may be billed. What is used is worked out at the prices themselves, from sums of usage that are
cut where a price changes, so it is the bill's own amount.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fractions import Fraction
from itertools import pairwise
from typing import NamedTuple

from zerotide.api.budget import BudgetSpec
from zerotide.api.quota import UNITS
from zerotide.api.scalars import HOUR
from zerotide.billing.prices import Meter, PriceIndex
from zerotide.billing.quotas import SKEW_US
from zerotide.billing.rating import Period
from zerotide.billing.rollups import Usage, UsageKey

AHEAD_US = 24 * HOUR
"""For how long prices are looked ahead: longer than a request may take."""
_METERS = (Meter.INPUT_TOKENS, Meter.CACHED_INPUT_TOKENS, Meter.OUTPUT_TOKENS, Meter.REQUESTS)


class Rates(NamedTuple):
    """The exact prices of one token or request; 0 where the book has none."""

    input: Fraction
    cached: Fraction
    output: Fraction
    request: Fraction


class Tariff(NamedTuple):
    """What a token that comes, a token that is made and a request are reserved as, in billionths of the currency."""

    input: int
    output: int
    request: int


def rated_periods(index: PriceIndex, period: Period) -> list[tuple[Period, Rates]]:
    """Cut a period at every instant at which a price of tokens or requests changes; the parts partition it."""
    if period.start_us >= period.end_us:
        return []
    edges = {edge for meter in _METERS for piece in index.pieces(meter, "", *period) for edge in piece[:2]}
    return [(Period(low, high), _rates_at(index, low)) for low, high in pairwise(sorted(edges))]


def tariff_of(index: PriceIndex, now_us: int) -> Tariff:
    """Return the tariff of what is reserved now; a request is reserved as something in any case."""
    ahead = [rates for _, rates in rated_periods(index, Period(now_us - SKEW_US, now_us + AHEAD_US))]
    return Tariff(
        input=units_up(max(max(rates.input, rates.cached) for rates in ahead)),
        output=units_up(max(rates.output for rates in ahead)),
        # So that who has used up all is refused, where tokens and requests have no price.
        request=max(units_up(max(rates.request for rates in ahead)), 1),
    )


def pieces_cost(spec: BudgetSpec, namespace: str, parts: Iterable[tuple[Rates, Mapping[UsageKey, Usage]]]) -> Fraction:
    """Return what the tokens and requests in a budget's scope cost, told the usage of each period under its rates."""
    return sum(
        (
            (usage.input - usage.cached) * rates.input
            + usage.cached * rates.cached
            + usage.output * rates.output
            + usage.requests * rates.request
            for rates, usages in parts
            for key, usage in usages.items()
            if key.namespace == namespace and spec.scope.holds(namespace, key.endpoint, key.consumer)
        ),
        Fraction(0),
    )


def _rates_at(index: PriceIndex, t_us: int) -> Rates:
    prices = (index.at(meter, "", t_us) for meter in _METERS)
    return Rates(*(price.rate if price is not None else Fraction(0) for price in prices))


def units_up(amount: Fraction) -> int:
    """Return an amount of money in the units that are reserved, rounded up."""
    return -(-amount.numerator * UNITS // amount.denominator)
