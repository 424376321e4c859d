"""Terms: what is agreed on beside prices, worked out for each consumer and month of an invoice.

In this order: a commitment pays for so many devices at all times and makes use up to that free, in each bucket by
itself; a free tier takes off the average price of so much of a meter; discounts take percents off what is left, each on
what lies above its amount and below the next one's; credits pay the rest of what was used while they held, the one that
expires first before the others, until they are used up. Each is one line, rounded once.

Tiers and discounts are of whole months: they hold for those that begin while they do. A commitment holds for each
instant of its own, a credit for the buckets that begin within it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from fractions import Fraction
from typing import NamedTuple

from zerotide.api.pricebook import TIME_METERS, Term, TermType
from zerotide.api.scalars import SECOND, parse_time
from zerotide.billing.budgets import EVER
from zerotide.billing.prices import PriceIndex
from zerotide.billing.rating import Period, round_money
from zerotide.billing.rollups import QUARTER
from zerotide.billing.sealing import ChargeKey, Charges


class Applied(NamedTuple):
    """What a term adds to or, below nought, takes off what a consumer owes; `quantity` is what of it was used."""

    term: Term
    quantity: Fraction
    amount: Decimal


class Month(NamedTuple):
    """A consumer's month, or as much of it as is over: its charges by bucket, and what lines and corrections say."""

    period: Period
    charges: Charges
    due: Decimal


def applied(terms: Sequence[Term], index: PriceIndex, consumer: str, months: Iterable[Month]) -> list[list[Applied]]:
    """Return what terms make of a consumer's consecutive months; credits pass from each to the next."""
    mine = [term for term in terms if term.holds_for(consumer)]
    left = {term.name: Decimal(term.amount or 0) for term in mine if term.type is TermType.CREDIT}
    return [_month(mine, index, month, left) for month in months]


def _month(terms: Sequence[Term], index: PriceIndex, month: Month, left: dict[str, Decimal]) -> list[Applied]:
    made: list[Applied] = []
    due = month.due
    paid: dict[ChargeKey, Fraction] = {key: Fraction(1) for key in month.charges}
    for term in _of(terms, TermType.COMMITMENT):
        fee, saving = _commitment(term, index, month, paid)
        made += [fee, saving]
        due += fee.amount + saving.amount
    for term in _of(terms, TermType.FREE_TIER, month.period.start_us):
        free = _free(term, month.charges, paid)
        made.append(free)
        due += free.amount
    discounts = _discounts(_of(terms, TermType.DISCOUNT, month.period.start_us), due)
    made += discounts
    after = due + sum((each.amount for each in discounts), Decimal(0))
    part = Fraction(after) / Fraction(due) if due > 0 else Fraction(0)
    unpaid = {key: line.amount * paid[key] * part for key, line in sorted(month.charges.items()) if line.amount > 0}
    for term in sorted(_of(terms, TermType.CREDIT), key=_expiry):
        spent = min(left[term.name], _payable(term, month.period, unpaid, after))
        left[term.name] -= spent
        after -= spent
        _pay(term, unpaid, Fraction(spent))
        made.append(Applied(term, Fraction(spent), -spent))
    return [each for each in made if each.amount or each.quantity]


def _payable(term: Term, period: Period, unpaid: Mapping[ChargeKey, Fraction], due: Decimal) -> Decimal:
    """Return the most that a credit may pay: all that is due, if it holds for all of the month."""
    low, high = _holds(term)
    if low > period.start_us or high < period.end_us:
        mine = (amount for key, amount in unpaid.items() if low <= key.of_us < high)
        due = min(due, round_money(sum(mine, Fraction(0))))
    return max(due, Decimal(0))


def _pay(term: Term, unpaid: dict[ChargeKey, Fraction], spent: Fraction) -> None:
    """Take what a credit has paid from the charges that it holds for, the oldest first."""
    low, high = _holds(term)
    for key, amount in unpaid.items():
        if not spent:
            break
        if low <= key.of_us < high:
            paid = min(amount, spent)
            unpaid[key], spent = amount - paid, spent - paid


def _holds(term: Term) -> Period:
    return Period(parse_time(term.valid_from), parse_time(term.valid_to) if term.valid_to else EVER)


def _of(terms: Iterable[Term], type_: TermType, t_us: int | None = None) -> list[Term]:
    return [term for term in terms if term.type is type_ and (t_us is None or term.covers(t_us))]


def _expiry(term: Term) -> tuple[bool, int, str]:
    return term.valid_to is None, parse_time(term.valid_to) if term.valid_to else 0, term.name


def _concerns(term: Term, key: ChargeKey) -> bool:
    return key.line.meter == term.meter and key.line.class_name == term.accelerator_class_name


def _commitment(
    term: Term, index: PriceIndex, month: Month, paid: dict[ChargeKey, Fraction]
) -> tuple[Applied, Applied]:
    """Return its fee, and what the use that it covers would have cost; `paid` is what of each charge is left to pay."""
    held = Fraction(term.quantity or 0)
    until = parse_time(term.valid_to) if term.valid_to else month.period.end_us
    low, high = max(month.period.start_us, parse_time(term.valid_from)), min(month.period.end_us, until)
    fee = held * Fraction(term.amount or 0) * max(high - low, 0) / (3600 * SECOND if term.per == "Hour" else SECOND)
    used: dict[int, Fraction] = {}
    for key, line in month.charges.items():
        if _concerns(term, key) and line.amount > 0:
            weight = index.multiplier_of(key.line.phase)
            used[key.of_us] = used.get(key.of_us, Fraction(0)) + line.quantity * weight * paid[key]
    covered, saved = Fraction(0), Fraction(0)
    for key, line in month.charges.items():
        bucket = used.get(key.of_us)
        if bucket and _concerns(term, key) and line.amount > 0:
            room = held * max(min(key.of_us + QUARTER, high) - max(key.of_us, low), 0)
            part = min(room / bucket, Fraction(1)) * paid[key]
            saved += part * line.amount
            covered += part * line.quantity
            paid[key] -= part
    return Applied(term, held * max(high - low, 0) / SECOND, round_money(fee)), Applied(
        term, covered / SECOND, -round_money(saved)
    )


def _free(term: Term, charges: Charges, paid: dict[ChargeKey, Fraction]) -> Applied:
    """Return what is free at the average price of what is left to pay."""
    quantity = amount = Fraction(0)
    for key, line in charges.items():
        if _concerns(term, key) and line.amount > 0:
            quantity += line.quantity * paid[key]
            amount += line.amount * paid[key]
    unit = SECOND if term.meter in TIME_METERS else 1
    free = min(Fraction(term.quantity or 0) * unit, quantity)
    for key, line in charges.items():
        if free and _concerns(term, key) and line.amount > 0:
            paid[key] *= 1 - free / quantity
    return Applied(term, free / unit, -round_money(amount * free / quantity) if free else Decimal(0))


def _discounts(terms: Sequence[Term], due: Decimal) -> list[Applied]:
    """Return each discount on what lies above its amount and not above that of the next."""
    steps = sorted(terms, key=lambda term: (Decimal(term.above or 0), term.name))
    found = []
    for place, term in enumerate(steps):
        low = Decimal(term.above or 0)
        high = min([due, *(Decimal(later.above or 0) for later in steps[place + 1 :])])
        part = Fraction(max(high - low, Decimal(0)))
        found.append(Applied(term, part, -round_money(part * Fraction(term.percent or 0) / 100)))
    return found
