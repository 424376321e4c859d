"""Make the bill of one endpoint, and its lines as people and machines read them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal
from fractions import Fraction

from zerotide.api.pricebook import TIME_METERS
from zerotide.api.scalars import SECOND
from zerotide.billing.facts import Fact
from zerotide.billing.ledger import Ledger
from zerotide.billing.prices import Meter, PriceIndex
from zerotide.billing.rating import (
    Bill,
    Line,
    LineKey,
    Period,
    bill_lifetime,
    bill_tokens,
    round_lines,
    round_money,
)
from zerotide.billing.reports import SegmentView
from zerotide.billing.starters import starters
from zerotide.billing.statements import BilledLine, Contribution, Evidence, Explanation, FactView, LineReport

UNITS = {
    Meter.ACCELERATOR_TIME: "device-seconds",
    Meter.CPU_TIME: "core-seconds",
    Meter.MEMORY_TIME: "GiB-seconds",
    Meter.INPUT_TOKENS: "tokens",
    Meter.CACHED_INPUT_TOKENS: "tokens",
    Meter.OUTPUT_TOKENS: "tokens",
    Meter.REQUESTS: "requests",
}


def endpoint_bill(ledger: Ledger, index: PriceIndex, period: Period, *, increment_us: int | None = None) -> Bill:
    """Return what one endpoint used within a period; time is rounded up as the book says unless told otherwise."""
    bill = Bill(index, index.book.increment_us if increment_us is None else increment_us)
    starting = starters(ledger)
    for life in ledger.lifetimes:
        flights, payers = ledger.flights.get(life.pod_uid, ()), starting.get(life.pod_uid)
        bill_lifetime(bill, life, flights, ledger.records.owner, period, index.book.default_class, payers)
    bill_tokens(bill, (each for each in ledger.records.attempts if each.finished_in(*period)), period)
    return bill


def line_report(ledgers: Iterable[Ledger], index: PriceIndex, period: Period, as_of_us: int) -> LineReport:
    """Return every line of a period; raise InvalidPeriod when it ends before it starts."""
    period = period.up_to(as_of_us)
    lines = [line for ledger in ledgers for line in billed_lines(ledger, index, period)]
    lines.sort(key=lambda line: (line.namespace, line.endpoint))
    return LineReport(
        currency=index.book.currency,
        from_us=period.start_us,
        to_us=period.end_us,
        as_of_us=as_of_us,
        lines=tuple(lines),
        total=f"{sum((Decimal(line.amount) for line in lines), Decimal(0)):f}",
    )


def billed_lines(ledger: Ledger, index: PriceIndex, period: Period) -> list[BilledLine]:
    """Return one endpoint's lines, rounded such that they add up to its rounded total."""
    lines = endpoint_bill(ledger, index, period).lines()
    amounts = round_lines({key: line.amount for key, line in lines.items()})
    names = (ledger.records.namespace, ledger.records.endpoint)
    return [billed_line(*names, index, key, line, amounts[key]) for key, line in lines.items()]


def billed_line(
    namespace: str, endpoint: str, index: PriceIndex, key: LineKey, line: Line, amount: Decimal
) -> BilledLine:
    """Return an endpoint's line as people and machines read it."""
    price = index.named(key.price)
    return BilledLine(
        namespace=namespace,
        endpoint=endpoint,
        consumer=key.consumer,
        meter=key.meter.value,
        class_name=key.class_name,
        phase=key.phase,
        price=key.price,
        unit_price=price.amount if price else "0",
        per=price.per.value if price else "",
        multiplier=_decimal(index.multiplier_of(key.phase)),
        quantity=quantity_text(key.meter, line.quantity),
        unit=UNITS[key.meter],
        amount=f"{amount:f}",
    )


def quantity_text(meter: Meter, quantity: Fraction) -> str:
    """Return a quantity in its unit, to the microsecond where it is time."""
    return f"{round_money(quantity / SECOND if meter in TIME_METERS else quantity):f}"


def explanation(ledgers: Iterable[Ledger], index: PriceIndex, period: Period, as_of_us: int) -> Explanation:
    """Return what each pod adds to each line of time, with its facts; raise InvalidPeriod."""
    period = period.up_to(as_of_us)
    exact: dict[tuple[str, LineKey], Line] = {}
    pods = []
    for ledger in ledgers:
        starting = starters(ledger)
        for life in ledger.lifetimes:
            if life.created_us >= period.end_us or life.end_us < period.start_us:
                continue
            bill = Bill(index)
            flights, payers = ledger.flights.get(life.pod_uid, ()), starting.get(life.pod_uid)
            bill_lifetime(bill, life, flights, ledger.records.owner, period, index.book.default_class, payers)
            exact |= {(life.pod_uid, key): line for key, line in bill.lines().items()}
            pods.append(_evidence(ledger, life.pod_uid))
    amounts = round_lines({key: line.amount for key, line in exact.items()})
    return Explanation(
        currency=index.book.currency,
        from_us=period.start_us,
        to_us=period.end_us,
        as_of_us=as_of_us,
        contributions=tuple(
            Contribution(
                pod_uid=pod_uid,
                consumer=key.consumer,
                meter=key.meter.value,
                class_name=key.class_name,
                phase=key.phase,
                price=key.price,
                quantity=quantity_text(key.meter, line.quantity),
                unit=UNITS[key.meter],
                amount=f"{amounts[pod_uid, key]:f}",
            )
            for (pod_uid, key), line in exact.items()
        ),
        pods=tuple(pods),
        total=f"{sum(amounts.values(), Decimal(0)):f}",
    )


def _evidence(ledger: Ledger, pod_uid: str) -> Evidence:
    (life,) = (each for each in ledger.lifetimes if each.pod_uid == pod_uid)
    facts: Sequence[Fact] = sorted(set(ledger.records.facts[pod_uid]), key=lambda fact: (fact.t_us, *fact))
    return Evidence(
        namespace=ledger.records.namespace,
        endpoint=ledger.records.endpoint,
        pod=life.identity.pod,
        pod_uid=pod_uid,
        ended=life.ended,
        flags=tuple(sorted(flag.value for flag in life.flags)),
        requests=sum(attempt.pod_uid == pod_uid for attempt in ledger.records.attempts),
        segments=tuple(SegmentView(from_us=low, to_us=high, phase=phase.value) for low, high, phase in life.segments),
        facts=tuple(FactView(kind=fact.kind, key=fact.key, time_us=fact.t_us) for fact in facts),
    )


def _decimal(value: Fraction) -> str:
    return f"{Decimal(value.numerator) / Decimal(value.denominator):f}"
