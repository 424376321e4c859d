"""What a budget comes to: its window, what of it is used up, and what holds then.

What is used is what a bill says, at the book's exact rates before time is rounded up: charges for money and devices,
sums of settled requests for tokens. So a budget knows what has ended; what a request will use is known when it is
over.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fractions import Fraction
from typing import Literal, NamedTuple

from zerotide.api.budget import MOST_PERCENT, Budget, BudgetAction, BudgetSpec, BudgetStatus, BudgetWindow, LimitType
from zerotide.api.pricebook import TIME_METERS, Meter
from zerotide.api.scalars import SECOND, format_time
from zerotide.billing.periods import named_period, zone
from zerotide.billing.rating import Line, Period, round_money
from zerotide.billing.rollups import Usage, UsageKey

EVER = 2**62
"""The end of a window that never ends, in microseconds since the epoch."""
_WINDOWS = {"Day": "today", "Week": "this week", "Month": "this month"}
_STRICTNESS = tuple(BudgetAction)


class SpentKey(NamedTuple):
    """Who used what of which endpoint of a namespace; `consumer` is `namespace/name`."""

    endpoint: str
    consumer: str
    meter: Meter
    currency: str


Spent = Mapping[SpentKey, Line]


class Standing(NamedTuple):
    """How a budget stands: used and limit in its unit, the percent that is reached, what holds, and in which window.

    `thresholds` are the percents of those that are reached, `time` is what of a budget of money replicas' time cost.
    """

    window: Period
    used: Fraction
    limit: Fraction
    percent: int
    action: BudgetAction | None
    thresholds: tuple[int, ...]
    time: Fraction = Fraction(0)


def window_of(window: BudgetWindow, now_us: int) -> Period:
    """Return the window that holds an instant; it begins at midnight of its time zone. Raises UnknownZone."""
    if window.period == "Total":
        return Period(0, EVER)
    return named_period(_WINDOWS[window.period], now_us, zone(window.time_zone))


def used(spec: BudgetSpec, namespace: str, spent: Spent, tokens: Mapping[UsageKey, Usage]) -> Fraction:
    """Return what is used up of a budget, in its unit."""
    scope, limit = spec.scope, spec.limit
    if limit.type is LimitType.TOKENS:
        return Fraction(
            sum(
                usage.input + usage.output
                for key, usage in tokens.items()
                if key.namespace == namespace and scope.holds(namespace, key.endpoint, key.consumer)
            )
        )
    found = [(key, line) for key, line in spent.items() if scope.holds(namespace, key.endpoint, key.consumer)]
    if limit.cost is not None:
        currency = limit.cost.currency
        return sum((line.amount for key, line in found if key.currency == currency), Fraction(0))
    devices = (line.quantity for key, line in found if key.meter is Meter.ACCELERATOR_TIME)
    return sum(devices, Fraction(0)) / SECOND


def time_cost(spec: BudgetSpec, namespace: str, spent: Spent) -> Fraction:
    """Return what of a budget of money is used up by time, which goes on without any request."""
    currency = spec.limit.cost.currency if spec.limit.cost is not None else ""
    return sum(
        (
            line.amount
            for key, line in spent.items()
            if key.meter in TIME_METERS
            and key.currency == currency
            and spec.scope.holds(namespace, key.endpoint, key.consumer)
        ),
        Fraction(0),
    )


def standing(spec: BudgetSpec, window: Period, amount: Fraction) -> Standing:
    """Return how a budget stands with so much used up; of a limit of nothing, all is used up from the start."""
    limit = spec.limit.value
    percent = int(amount * 100 / limit) if limit else 100
    reached = [threshold for threshold in spec.thresholds if amount * 100 >= limit * threshold.percent]
    action = max((threshold.action for threshold in reached), key=_STRICTNESS.index, default=None)
    return Standing(window, amount, limit, percent, action, tuple(sorted(each.percent for each in reached)))


def status_of(budget: Budget, standing: Standing, currencies: Iterable[str], now_us: int) -> BudgetStatus:
    """Return what a budget's status says; `currencies` are those in which anything is priced."""
    spec, window = budget.spec, standing.window
    unit = spec.limit.unit
    ends = window.end_us < EVER
    foreign = spec.limit.cost is not None and spec.limit.cost.currency not in (known := tuple(currencies))
    spent, limit = amount_text(spec.limit.type, standing.used, unit), amount_text(spec.limit.type, standing.limit, unit)
    if foreign:
        message = f"nothing is priced in {unit}: the price book has {', '.join(known)}; give the limit in that currency"
    else:
        message = f"{spent} of {limit} are used up ({standing.percent} %)" + (
            f"; it begins anew at {format_time(window.end_us)}" if ends else ""
        )
    return BudgetStatus(
        observed_generation=budget.metadata.generation,
        state="Unusable" if foreign else _state(standing),
        action=standing.action,
        used=spent,
        limit=limit,
        percent=min(standing.percent, MOST_PERCENT),
        window_start=format_time(window.start_us) if window.start_us else None,
        window_end=format_time(window.end_us) if ends else None,
        message=message,
        update_time=format_time(now_us),
    )


def _state(standing: Standing) -> Literal["Ok", "Warning", "Exhausted"]:
    if standing.percent >= 100:
        return "Exhausted"
    return "Warning" if standing.thresholds else "Ok"


def amount_text(kind: LimitType, amount: Fraction, unit: str) -> str:
    """Return an amount with its unit: money to its sixth decimal, seconds to the first, tokens whole."""
    if kind is LimitType.TOKENS:
        return f"{int(amount)} {unit}"
    text = f"{round_money(amount, 1 if kind is LimitType.ACCELERATOR_SECONDS else 6):f}"
    whole, _, rest = text.partition(".")
    # Money has two decimals at least.
    rest = rest.rstrip("0").ljust(2, "0") if kind is LimitType.COST else rest.rstrip("0")
    return f"{whole}.{rest} {unit}" if rest else f"{whole} {unit}"


def worth_writing(known: BudgetStatus, found: BudgetStatus, age_us: int, pace_us: int) -> bool:
    """Tell whether a status is to be written: what holds at once, what is merely more used up now and then."""
    if known.used == found.used and known.model_copy(update=_SIGHT) == found.model_copy(update=_SIGHT):
        return False
    passing = {**_SIGHT, "used": None, "percent": None, "message": None}
    return known.model_copy(update=passing) != found.model_copy(update=passing) or age_us >= pace_us


_SIGHT = {"update_time": None, "deliveries": None}
"""What changes with every look, and what is written by itself."""
