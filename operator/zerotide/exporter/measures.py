"""In what a budget that is never passed is reserved: tokens, or money for them, and what of it is used."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from zerotide.api.budget import BudgetSpec
from zerotide.api.quota import MOST, UNITS, Wish, cost_of
from zerotide.billing.budgets import used
from zerotide.billing.prices import PriceIndex
from zerotide.billing.rating import Period
from zerotide.billing.rollups import Usage, UsageKey
from zerotide.billing.tariffs import Rates, Tariff, pieces_cost, rated_periods, tariff_of, units_up
from zerotide.exporter.errors import Unmeasured

Timed = Mapping[int, Fraction]
"""What the time of replicas has cost of a budget of money, by the start of the window."""
Usages = Sequence[Mapping[UsageKey, Usage]]


@dataclass(frozen=True)
class TokenMeasure:
    """Tokens: `periods` are the windows that may hold the instant."""

    spec: BudgetSpec
    namespace: str
    periods: tuple[Period, ...]
    tariff: Tariff | None = None
    currency: str = ""

    @property
    def limit(self) -> int:
        """Return how many may be used."""
        return int(self.spec.limit.value)

    def needs(self, wish: Wish) -> tuple[int, ...]:
        """Return what waiting requests need."""
        return wish.needs

    def used(self, usages: Usages) -> int:
        """Return how many are used in the window that has used the most, told the usage of each period."""
        return max(int(used(self.spec, self.namespace, {}, usage)) for usage in usages)


@dataclass(frozen=True)
class MoneyMeasure:
    """Billionths of a currency: each window is cut where prices change; `times` are what its time has cost."""

    spec: BudgetSpec
    namespace: str
    windows: tuple[tuple[tuple[Period, Rates], ...], ...]
    times: tuple[Fraction, ...]
    tariff: Tariff
    currency: str

    @property
    def periods(self) -> tuple[Period, ...]:
        """Return the periods of which the usage has to be known."""
        return tuple(period for parts in self.windows for period, _ in parts)

    @property
    def limit(self) -> int:
        """Return how many may be used."""
        return min(int(self.spec.limit.value * UNITS), MOST)

    def needs(self, wish: Wish) -> tuple[int, ...]:
        """Return what waiting requests need."""
        return tuple(cost_of(want, self.tariff) for want in wish.wants)

    def used(self, usages: Usages) -> int:
        """Return how many are used in the window that has used the most, told the usage of each period."""
        left, spent = list(usages), []
        for parts, time in zip(self.windows, self.times, strict=True):
            mine, left = left[: len(parts)], left[len(parts) :]
            rated = zip((rates for _, rates in parts), mine, strict=True)
            spent.append(units_up(time + pieces_cost(self.spec, self.namespace, rated)))
        return max(spent)


Measure = TokenMeasure | MoneyMeasure


def measure_of(
    spec: BudgetSpec,
    namespace: str,
    windows: tuple[Period, ...],
    index: PriceIndex,
    timed: Timed | None,
    now_us: int,
) -> Measure:
    """Return the measure of a budget in the windows that may hold an instant. Raises Unmeasured."""
    limit = spec.limit.cost
    if limit is None:
        return TokenMeasure(spec, namespace, windows)
    if limit.currency != index.book.currency:
        raise Unmeasured(f"nothing is priced in {limit.currency}: the price book has {index.book.currency}")
    if timed is None:
        raise Unmeasured("what the time of replicas has cost is not reckoned yet")
    return MoneyMeasure(
        spec,
        namespace,
        tuple(tuple(rated_periods(index, window)) for window in windows),
        tuple(timed.get(window.start_us, Fraction(0)) for window in windows),
        tariff_of(index, now_us),
        limit.currency,
    )
