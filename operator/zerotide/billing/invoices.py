"""Invoices: what was sealed in a period, what is not sealed yet as it stands, and corrections of earlier periods.

A charge is on the invoice of the period that it was posted in, so an invoice of a period that is sealed never changes,
and every charge and correction is on one invoice. Within the period, charges and their corrections are one line;
corrections of what earlier invoices said are lines of their own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, tzinfo
from decimal import Decimal
from fractions import Fraction
from typing import NamedTuple

from zerotide.api.pricebook import TIME_METERS
from zerotide.billing.bills import UNITS, billed_line, endpoint_bill, quantity_text
from zerotide.billing.ledger import Ledger
from zerotide.billing.periods import month_of
from zerotide.billing.prices import PriceIndex
from zerotide.billing.rating import Line, LineKey, Period, round_lines, round_money
from zerotide.billing.rollups import DAY, QUARTER
from zerotide.billing.sealing import ChargeKey, Charges, Posted, added
from zerotide.billing.statements import BilledLine, CorrectionLine, CorrectionView, InvoiceReport


class SealedPart(NamedTuple):
    """What a ledger has sealed: up to when, and the charges that bear on the period that is asked about."""

    until_us: int = 0
    posted: tuple[Posted, ...] = ()


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
    start = -(-period.start_us // QUARTER) * QUARTER
    sealed = Period(start, max(min(period.end_us, part.until_us) // QUARTER * QUARTER, start))
    own: dict[tuple[str, str], list[Charges]] = {}
    earlier: dict[tuple[str, str], list[Charges]] = {}
    for bucket_us, key, line in part.posted:
        if sealed.start_us <= bucket_us < sealed.end_us and key.currency == index.book.currency:
            kind = own if key.of_us >= sealed.start_us else earlier
            kind.setdefault((key.namespace, key.endpoint), []).append({key: line})
    owners: dict[tuple[str, str], str] = {}
    for ledger in ledgers:
        where = (ledger.records.namespace, ledger.records.endpoint)
        owners[where] = ledger.records.owner
        for rest in _unsealed(period, sealed):
            own.setdefault(where, []).append(_fresh(ledger, index, rest))
    return [
        Statement(*where, owners.get(where, "/".join(where)), added(own.get(where, ())), added(earlier.get(where, ())))
        for where in sorted({*own, *earlier})
    ]


def invoice_report(
    ledgers: Iterable[Ledger],
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
    until = period.up_to(as_of_us)
    return InvoiceReport(
        currency=index.book.currency,
        from_us=until.start_us,
        to_us=until.end_us,
        as_of_us=as_of_us,
        sealed_until_us=part.until_us,
        lines=lines,
        corrections=corrections,
        total=f"{sum((Decimal(line.amount) for line in (*lines, *corrections)), Decimal(0)):f}",
    )


def summed(charges: Charges, index: PriceIndex) -> dict[LineKey, Line]:
    """Return charges as lines, with time rounded up as the book says: once for each line, over all buckets."""
    parts: dict[tuple[LineKey, Fraction], Line] = {}
    for key, line in charges.items():
        known = parts.get((key.line, key.units))
        parts[key.line, key.units] = _plus(known, line)
    lines: dict[LineKey, Line] = {}
    for (key_, units), line in parts.items():
        lines[key_] = _plus(lines.get(key_), _rounded_up(key_, units, line, index))
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
        place = (month_of(key.of_us, where), key.line)
        exact[place] = _plus(exact.get(place), line)
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
    """Yield what of a period is not sealed, by days of UTC."""
    before, after = min(sealed.start_us, period.end_us), max(sealed.end_us, period.start_us)
    for low, high in ((period.start_us, before), (after, period.end_us)):
        while low < high:
            edge = min((low // DAY + 1) * DAY, high)
            yield Period(low, edge)
            low = edge


def _fresh(ledger: Ledger, index: PriceIndex, period: Period) -> dict[ChargeKey, Line]:
    names = (ledger.records.namespace, ledger.records.endpoint)
    bill = endpoint_bill(ledger, index, period, increment_us=1)
    return {
        ChargeKey(period.start_us, *names, key, units, index.book.currency): line
        for (key, units), line in bill.parts().items()
    }


def _rounded_up(key: LineKey, units: Fraction, line: Line, index: PriceIndex) -> Line:
    increment = index.book.increment_us
    if increment == 1 or key.meter not in TIME_METERS or index.named(key.price) is None:
        return line
    us = line.quantity / units
    more = (-(-us // increment) * increment - us) * units
    return Line(line.quantity + more, line.amount + more * index.rate(key.price) * index.multiplier_of(key.phase))


def _plus(known: Line | None, line: Line) -> Line:
    return Line(known.quantity + line.quantity, known.amount + line.amount) if known else line
