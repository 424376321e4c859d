"""What an endpoint's status says that it cost: sums that are kept, and the few pods that need to be folded.

Sums are of settled time, so they are cheap however long the month was; a bill folds everything again, and may know
better where facts came late.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from fractions import Fraction

from zerotide.api.cost import Cost, FailedStartsCost
from zerotide.api.scalars import SECOND
from zerotide.billing.ledger import Ledger
from zerotide.billing.periods import month_of
from zerotide.billing.prices import Meter, PriceIndex
from zerotide.billing.rating import Bill, Period, bill_lifetime, round_money
from zerotide.billing.rollups import DAY, Usage
from zerotide.billing.wakes import wake_costs

UsageOf = Callable[[Period], Usage]
"""The usage of an endpoint within a period."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def cost_of(days: Mapping[int, Fraction], usage: UsageOf, index: PriceIndex, last_us: int) -> Cost:
    """Return what the month and the day of an instant cost, from the costs of days and the usage of their tokens."""
    month, day = month_of(last_us), Period(last_us // DAY * DAY, last_us // DAY * DAY + DAY)
    of_month = sum((amount for start, amount in days.items() if month.start_us <= start < month.end_us), Fraction(0))
    of_month += _of_tokens(usage, index, month)
    used = usage(month)
    tokens = used.input + used.output
    text = (_EPOCH + timedelta(microseconds=last_us)).date().isoformat()
    return Cost(
        currency=index.book.currency,
        month=text[:7],
        month_to_date=_text(of_month),
        day=text,
        day_to_date=_text(days.get(day.start_us, Fraction(0)) + _of_tokens(usage, index, day)),
        per_million_tokens=_text(of_month * 1_000_000 / tokens) if tokens else None,
    )


def cold_start_cost(ledgers: Iterable[Ledger], index: PriceIndex, wake_id: str, time_us: int) -> str | None:
    """Return what it cost to start the replicas of a wake, None where none is known to be its."""
    period = Period(time_us, time_us + 1)
    found = [wake for ledger in ledgers for wake in wake_costs(ledger, index, period) if wake.id == wake_id]
    return found[0].amount if found else None


def failed_starts_cost(ledgers: Iterable[Ledger], index: PriceIndex, since_us: int = 0) -> FailedStartsCost:
    """Return what those pods used up that were created since an instant and since any became ready, and never did."""
    lives = [life for ledger in ledgers for life in ledger.lifetimes]
    since_us = max([since_us, *(life.warm_us for life in lives if life.warm_us is not None)])
    bill, device_us = Bill(index), Fraction(0)
    for life in (life for life in lives if life.warm_us is None and life.created_us >= since_us):
        share = life.accelerator.share if life.accelerator else Fraction(1)
        device_us += life.allocation.units * life.allocated_us * share
        bill_lifetime(bill, life, (), "", Period(life.start_us, life.end_us), index.book.default_class)
    amount = sum((line.amount for line in bill.lines().values()), Fraction(0))
    return FailedStartsCost(accelerator_seconds=round(device_us / SECOND), amount=_text(amount))


def _of_tokens(usage: UsageOf, index: PriceIndex, period: Period) -> Fraction:
    amount = Fraction(0)
    for meter in (Meter.INPUT_TOKENS, Meter.CACHED_INPUT_TOKENS, Meter.OUTPUT_TOKENS, Meter.REQUESTS):
        for low, high, price in index.pieces(meter, "", *period) if index.priced(meter) else ():
            if price is not None:
                amount += _number(usage(Period(low, high)), meter) * price.rate
    return amount


def _number(used: Usage, meter: Meter) -> int:
    match meter:
        case Meter.INPUT_TOKENS:
            return used.input - used.cached
        case Meter.CACHED_INPUT_TOKENS:
            return used.cached
        case Meter.OUTPUT_TOKENS:
            return used.output
        case _:
            return used.requests


def _text(amount: Fraction) -> str:
    return f"{round_money(amount):f}"
