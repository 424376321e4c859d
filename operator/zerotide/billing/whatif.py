"""Rate one usage by several price books: what others would ask for it, or what yesterday's prices would have."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fractions import Fraction

from zerotide.billing.bills import endpoint_bill
from zerotide.billing.ledger import Ledger
from zerotide.billing.prices import Meter, PriceIndex
from zerotide.billing.rating import Period, round_money
from zerotide.billing.statements import RateReport, WhatIf


def rate_report(
    ledgers: Iterable[Ledger], books: Mapping[str, PriceIndex], period: Period, as_of_us: int
) -> RateReport:
    """Return the total by each book, in the books' order; raise InvalidPeriod.

    A book of devices does not price tokens, and one of tokens no devices: what it has no price for is named.
    """
    period = period.up_to(as_of_us)
    ledgers = list(ledgers)
    return RateReport(
        from_us=period.start_us,
        to_us=period.end_us,
        as_of_us=as_of_us,
        books=tuple(_rated(ledgers, name, index, period) for name, index in books.items()),
    )


def _rated(ledgers: Iterable[Ledger], name: str, index: PriceIndex, period: Period) -> WhatIf:
    total, unpriced = Fraction(0), set[str]()
    priced = {price.meter for price in index.book.prices}
    for ledger in ledgers:
        for key, line in endpoint_bill(ledger, index, period).lines().items():
            total += line.amount
            if not key.price and line.quantity:
                unpriced.add(key.class_name or key.meter.value)
        if any(attempt.finished_in(*period) for attempt in ledger.records.attempts):
            unpriced |= {Meter.OUTPUT_TOKENS.value} - priced
    return WhatIf(
        book=name, currency=index.book.currency, total=f"{round_money(total):f}", unpriced=tuple(sorted(unpriced))
    )
