"""Invoices: what was sealed in a period, what is not sealed yet as it stands, and corrections of earlier periods.

A charge is on the invoice of the period that it was posted in, so an invoice of a period that is sealed never changes,
and every charge and correction is on one invoice. Within the period, charges and their corrections are one line;
corrections of what earlier invoices said are lines of their own.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, tzinfo
from decimal import Decimal
from fractions import Fraction
from itertools import chain
from types import MappingProxyType
from typing import NamedTuple

from zerotide.api.pricebook import TIME_METERS, TermType
from zerotide.api.scalars import parse_time
from zerotide.billing.bills import UNITS, billed_line, endpoint_bill, quantity_text
from zerotide.billing.ledger import Ledger
from zerotide.billing.periods import month_of
from zerotide.billing.prices import PriceIndex
from zerotide.billing.rating import Line, LineKey, Period, add_line, round_lines, round_money
from zerotide.billing.rollups import QUARTER
from zerotide.billing.sealing import ChargeKey, Charges, Posted, added, bucket_of, charges
from zerotide.billing.statements import (
    BilledLine,
    CorrectionLine,
    CorrectionView,
    InvoiceReport,
    OtherCurrency,
    TermLine,
    UnrecordedLine,
)
from zerotide.billing.terms import Applied, Month, applied
from zerotide.billing.usage import Unbilled, unbilled_in


class SealedPart(NamedTuple):
    """What a ledger has sealed: up to when, and the charges that bear on the period that is asked about, in order.

    `owners` are those of endpoints that nothing is folded of, `unbilled` what of the period nobody could record.
    """

    until_us: int = 0
    posted: tuple[Posted, ...] = ()
    owners: Mapping[tuple[str, str], str] = MappingProxyType({})
    unbilled: tuple[Unbilled, ...] = ()


NOTHING = SealedPart()


class Statement(NamedTuple):
    """One endpoint's part of an invoice: charges of the period, by bucket or day, and corrections of earlier ones."""

    namespace: str
    endpoint: str
    owner: str
    charges: Charges
    corrections: Charges


def statements(
    ledgers: Iterable[Ledger], index: PriceIndex, period: Period, part: SealedPart, as_of_us: int
) -> list[Statement]:
    """Return what each endpoint is to be invoiced for within a period; raise InvalidPeriod."""
    period = period.up_to(as_of_us)
    sealed = _sealed(period, part)
    own: dict[tuple[str, str], list[Charges]] = {}
    earlier: dict[tuple[str, str], list[Charges]] = {}
    for bucket_us, key, line in part.posted:
        if sealed.start_us <= bucket_us < sealed.end_us and key.currency == index.book.currency:
            kind = own if key.of_us >= sealed.start_us else earlier
            kind.setdefault((key.namespace, key.endpoint), []).append({key: line})
    owners = dict(part.owners)
    for ledger in ledgers:
        where = (ledger.records.namespace, ledger.records.endpoint)
        owners[where] = ledger.records.owner
        for rest in _unsealed(period, sealed):
            own.setdefault(where, []).append(_fresh(ledger, index, rest))
    return [
        Statement(*where, owners.get(where, "/".join(where)), added(own.get(where, ())), added(earlier.get(where, ())))
        for where in sorted({*own, *earlier})
    ]


def _sealed(period: Period, part: SealedPart) -> Period:
    """Return the whole quarters of a period that are sealed."""
    start = -(-period.start_us // QUARTER) * QUARTER
    return Period(start, max(min(period.end_us, part.until_us) // QUARTER * QUARTER, start))


def invoice_report(
    ledgers: Sequence[Ledger],
    index: PriceIndex,
    period: Period,
    part: SealedPart,
    as_of_us: int,
    where: tzinfo = UTC,
) -> InvoiceReport:
    """Return the lines and corrections of a period, which add up to its total; raise InvalidPeriod.

    `where` is the zone whose months corrections are told by.
    """
    made = [billed_lines(each, index, where) for each in statements(ledgers, index, period, part, as_of_us)]
    lines = tuple(line for own, _ in made for line in own)
    corrections = tuple(line for _, earlier in made for line in earlier)
    terms = term_lines(ledgers, index, period, part, as_of_us, where)
    until = period.up_to(as_of_us)
    amounts = [line.amount for line in lines] + [line.amount for line in corrections] + [line.amount for line in terms]
    return InvoiceReport(
        currency=index.book.currency,
        from_us=until.start_us,
        to_us=until.end_us,
        as_of_us=as_of_us,
        sealed_until_us=part.until_us,
        lines=lines,
        corrections=corrections,
        terms=terms,
        elsewhere=tuple(in_other_currencies(index, period, part, as_of_us)),
        unrecorded=tuple(_unrecorded(part.unbilled, until)),
        total=f"{sum(map(Decimal, amounts), Decimal(0)):f}",
    )


def in_other_currencies(index: PriceIndex, period: Period, part: SealedPart, as_of_us: int) -> Iterator[OtherCurrency]:
    """Yield what was charged within a period in another currency than the book's, by consumer; raise InvalidPeriod."""
    sealed = _sealed(period.up_to(as_of_us), part)
    found: dict[tuple[str, str], Fraction] = {}
    for bucket_us, key, line in part.posted:
        if sealed.start_us <= bucket_us < sealed.end_us and key.currency != index.book.currency:
            place = (key.line.consumer, key.currency)
            found[place] = found.get(place, Fraction(0)) + line.amount
    for (consumer, currency), amount in sorted(found.items()):
        if amount:
            yield OtherCurrency(consumer=consumer, currency=currency, amount=f"{round_money(amount):f}")


def _unrecorded(unbilled: Iterable[Unbilled], period: Period) -> Iterator[UnrecordedLine]:
    for (namespace, endpoint, consumer), requests in sorted(unbilled_in(unbilled, period).items()):
        yield UnrecordedLine(namespace=namespace, endpoint=endpoint, consumer=consumer, requests=requests)


def to_fold(part: SealedPart, period: Period, read: Period) -> Period:
    """Return of when ledgers are needed to invoice a period, where `read` is what an invoice of it needs.

    That is what is not sealed, and what it has of quarters amid which it begins or ends.
    """
    low = max(min(part.until_us, read.end_us) // QUARTER * QUARTER, read.start_us)
    return Period(min(low, period.start_us) if period.start_us % QUARTER else low, read.end_us)


def needed(index: PriceIndex, period: Period, where: tzinfo = UTC) -> Period:
    """Return the period that an invoice's ledgers and charges must be of: credits go on from month to month."""
    credits = (parse_time(term.valid_from) for term in index.book.terms if term.type is TermType.CREDIT)
    first = min((month_of(t_us, where).start_us for t_us in credits), default=period.start_us)
    return Period(min(first, period.start_us), period.end_us)


def term_lines(
    ledgers: Sequence[Ledger], index: PriceIndex, period: Period, part: SealedPart, as_of_us: int, where: tzinfo = UTC
) -> tuple[TermLine, ...]:
    """Return what terms make of those months that a period holds from their first instant on."""
    if not index.book.terms:
        return ()
    period = period.up_to(as_of_us)
    months: list[Period] = []
    low = needed(index, period, where).start_us
    low = low if month_of(low, where).start_us == low else month_of(low, where).end_us
    while low < period.end_us:
        months.append(Period(low, min(month_of(low, where).end_us, period.end_us)))
        low = months[-1].end_us
    told = [_consumers(*_within(month, ledgers, part), index, month, as_of_us) for month in months]
    everybody = {consumer for each in told for consumer in each}
    everybody |= {consumer for term in index.book.terms for consumer in term.consumers}
    return tuple(
        _term_line(consumer, month, each)
        for consumer in sorted(everybody)
        for month, found in zip(
            months,
            applied(
                index.book.terms,
                index,
                consumer,
                [each.get(consumer, Month(month, {}, Decimal(0))) for month, each in zip(months, told, strict=True)],
            ),
            strict=True,
        )
        if month.start_us >= period.start_us
        for each in found
    )


def _within(month: Period, ledgers: Sequence[Ledger], part: SealedPart) -> tuple[Sequence[Ledger], SealedPart]:
    """Return what bears on one of many months: terms may have held for long, and each month of them is worked out."""
    low, high = (bisect_left(part.posted, edge, key=_bucket) for edge in month)
    # Whole sealed months are charges alone, and before a ledger begins there is nothing to fold.
    sealed = month.end_us <= part.until_us and month.end_us % QUARTER == 0
    known = [] if sealed else [ledger for ledger in ledgers if month.end_us > _born(ledger)]
    return known, part._replace(posted=part.posted[low:high])


def _bucket(posted: Posted) -> int:
    return posted.bucket_us


def _born(ledger: Ledger) -> int:
    lives = (life.created_us for life in ledger.lifetimes)
    return min(
        chain(lives, (attempt.forwarded_us for attempt in ledger.records.attempts)), default=ledger.records.since_us
    )


def _consumers(
    ledgers: Sequence[Ledger], part: SealedPart, index: PriceIndex, month: Period, as_of_us: int
) -> dict[str, Month]:
    """Return each consumer's month."""
    mine: dict[str, dict[ChargeKey, Line]] = {}
    due: dict[str, Decimal] = {}
    for statement in statements(ledgers, index, month, part, as_of_us):
        for key, line in statement.charges.items():
            mine.setdefault(key.line.consumer, {})[key] = line
        for billed in chain.from_iterable(billed_lines(statement, index)):
            due[billed.consumer] = due.get(billed.consumer, Decimal(0)) + Decimal(billed.amount)
    return {consumer: Month(month, mine.get(consumer, {}), due.get(consumer, Decimal(0))) for consumer in due}


def _term_line(consumer: str, month: Period, each: Applied) -> TermLine:
    term = each.term
    return TermLine(
        consumer=consumer,
        name=term.name,
        type=term.type.value,
        month_us=month.start_us,
        quantity=f"{round_money(each.quantity):f}",
        unit=UNITS[term.meter] if term.meter else "money",
        amount=f"{each.amount:f}",
    )


def summed(made: Charges, index: PriceIndex) -> dict[LineKey, Line]:
    """Return charges as lines, with time rounded up as the book says: once for each line, over all buckets."""
    parts: dict[tuple[LineKey, Fraction], Line] = {}
    for key, line in made.items():
        add_line(parts, (key.line, key.units), line)
    lines: dict[LineKey, Line] = {}
    for (key_, units), line in parts.items():
        add_line(lines, key_, _rounded_up(key_, units, line, index))
    return dict(sorted(lines.items()))


def corrections_of(posted: Iterable[Posted]) -> tuple[CorrectionView, ...]:
    """Return those charges that correct earlier ones, in the order in which they were posted."""
    return tuple(
        CorrectionView(
            posted_us=bucket_us,
            of_us=key.of_us,
            namespace=key.namespace,
            endpoint=key.endpoint,
            consumer=key.line.consumer,
            meter=key.line.meter.value,
            class_name=key.line.class_name,
            phase=key.line.phase,
            price=key.line.price,
            quantity=quantity_text(key.line.meter, line.quantity),
            unit=UNITS[key.line.meter],
            amount=f"{round_money(line.amount):f}",
        )
        for bucket_us, key, line in posted
        if bucket_us != key.of_us
    )


def billed_lines(
    statement: Statement, index: PriceIndex, where: tzinfo = UTC
) -> tuple[list[BilledLine], list[CorrectionLine]]:
    """Return an endpoint's lines, and its corrections by month, rounded such that they add up to its rounded total."""
    exact: dict[tuple[Period | None, LineKey], Line] = {
        (None, key): line for key, line in summed(statement.charges, index).items()
    }
    for key, line in sorted(statement.corrections.items()):
        add_line(exact, (month_of(key.of_us, where), key.line), line)
    amounts = round_lines({place: line.amount for place, line in exact.items()})
    names = (statement.namespace, statement.endpoint)
    lines, corrections = [], []
    for (month, key_), line in exact.items():
        made = billed_line(*names, index, key_, line, amounts[month, key_])
        if month is None:
            lines.append(made)
        else:
            corrections.append(CorrectionLine(**dict(made), of_from_us=month.start_us, of_to_us=month.end_us))
    return lines, corrections


def _unsealed(period: Period, sealed: Period) -> Iterator[Period]:
    """Yield what of a period is not sealed, whole buckets apart from what is left at its ends."""
    before, after = min(sealed.start_us, period.end_us), max(sealed.end_us, period.start_us)
    for low, high in ((period.start_us, before), (after, period.end_us)):
        first, last = -(-low // QUARTER) * QUARTER, high // QUARTER * QUARTER
        parts = ((low, first), (first, last), (last, high)) if first <= last else ((low, high),)
        yield from (Period(*part) for part in parts if part[0] < part[1])


def _fresh(ledger: Ledger, index: PriceIndex, period: Period) -> dict[ChargeKey, Line]:
    if period.start_us % QUARTER == period.end_us % QUARTER == 0:
        return charges(ledger, index, period)
    names = (ledger.records.namespace, ledger.records.endpoint)
    bill = endpoint_bill(ledger, index, period, increment_us=1)
    return {
        ChargeKey(bucket_of(period.start_us), *names, key, units, index.book.currency): line
        for (key, units), line in bill.parts().items()
    }


def _rounded_up(key: LineKey, units: Fraction, line: Line, index: PriceIndex) -> Line:
    increment = index.book.increment_us
    if increment == 1 or key.meter not in TIME_METERS or index.named(key.price) is None:
        return line
    us = line.quantity / units
    more = (-(-us // increment) * increment - us) * units
    return Line(line.quantity + more, line.amount + more * index.rate(key.price) * index.multiplier_of(key.phase))
