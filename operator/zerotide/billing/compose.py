"""Compose reports from folded ledgers: the lines of the bill, grouped for people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from fractions import Fraction

from zerotide.api.scalars import SECOND
from zerotide.billing.adapters import adapter_costs
from zerotide.billing.bills import endpoint_bill
from zerotide.billing.fold import Lifetime, Phase
from zerotide.billing.ledger import Ledger
from zerotide.billing.prices import Meter, PriceIndex
from zerotide.billing.rating import (
    Bill,
    Line,
    LineKey,
    Period,
    rates_of,
    round_lines,
    round_money,
)
from zerotide.billing.reports import (
    ColdStartReport,
    ConsumerCost,
    CostReport,
    EndpointCost,
    PhaseCost,
    PodSegments,
    SegmentReport,
    SegmentView,
    TokenCost,
)
from zerotide.billing.split import apportion
from zerotide.billing.usage import Attempt, unbilled_in
from zerotide.billing.wakes import requests_of, summarize, wake_costs

Amounts = Mapping[LineKey, Decimal]


def cost_report(ledgers: Iterable[Ledger], index: PriceIndex, period: Period, as_of_us: int) -> CostReport:
    """Return what endpoints cost within a period; raise InvalidPeriod when it ends before it starts."""
    period = period.up_to(as_of_us)
    costs = [endpoint_cost(ledger, index, period) for ledger in ledgers]
    costs.sort(key=lambda cost: (cost.namespace, cost.endpoint))
    return CostReport(
        currency=index.book.currency,
        from_us=period.start_us,
        to_us=period.end_us,
        as_of_us=as_of_us,
        endpoints=tuple(costs),
        total=_text(sum((Decimal(cost.total) for cost in costs), Decimal(0))),
        always_on=_text(sum((Decimal(cost.always_on) for cost in costs), Decimal(0))),
    )


def coldstart_report(ledgers: Iterable[Ledger], index: PriceIndex, period: Period, as_of_us: int) -> ColdStartReport:
    """Return the wakes of a period, newest first, and how many of its requests met one."""
    period, ledgers = period.checked(), list(ledgers)
    requests, cold = requests_of(ledgers, period)
    wakes = [wake for ledger in ledgers for wake in wake_costs(ledger, index, period)]
    wakes.sort(key=lambda wake: (wake.time_us, wake.id), reverse=True)
    return ColdStartReport(
        currency=index.book.currency,
        as_of_us=as_of_us,
        wakes=tuple(wakes),
        summary=summarize(wakes),
        amount=_text(sum((Decimal(wake.amount or 0) for wake in wakes), Decimal(0))),
        requests=requests,
        cold_requests=cold,
    )


def segment_report(ledgers: Iterable[Ledger], index: PriceIndex, period: Period, as_of_us: int) -> SegmentReport:
    """Return the uncut segments of every replica that existed within a period."""
    period = period.checked()
    pods = [
        _pod_segments(life, index)
        for ledger in ledgers
        for life in ledger.lifetimes
        if life.created_us < period.end_us and life.end_us >= period.start_us
    ]
    pods.sort(key=lambda pod: (pod.namespace, pod.endpoint, pod.created_us, pod.pod_uid))
    return SegmentReport(from_us=period.start_us, to_us=period.end_us, as_of_us=as_of_us, pods=tuple(pods))


def endpoint_cost(ledger: Ledger, index: PriceIndex, period: Period) -> EndpointCost:
    """Return what one endpoint cost within a period."""
    records = ledger.records
    bill = endpoint_bill(ledger, index, period)
    done = [attempt for attempt in records.attempts if attempt.finished_in(*period)]
    lines = bill.lines()
    amounts = round_lines({key: line.amount for key, line in lines.items()})
    total = sum(amounts.values(), Decimal(0))
    latest = ledger.lifetimes[-1] if ledger.lifetimes else None
    tokens = _tokens(done, amounts, sum(unbilled_in(records.unbilled, period).values()))
    return EndpointCost(
        namespace=records.namespace,
        endpoint=records.endpoint,
        accelerator=_class_of(latest, index) if latest else "",
        units=latest.allocation.units if latest else 0,
        replicas=sum(life.start_us < period.end_us and life.end_us > period.start_us for life in ledger.lifetimes),
        phases=_phases(ledger, lines, amounts, period),
        tokens=tokens,
        consumers=_consumers(bill, done, amounts),
        adapters=adapter_costs(ledger, index, period, done, amounts),
        wakes=tuple(wake_costs(ledger, index, period)),
        total=_text(total),
        always_on=_text(round_money(_always_on(ledger, index, period))),
        per_million_tokens=_per_million(total, tokens.input + tokens.output),
        notes=_notes(ledger, lines, index, tokens),
    )


def _always_on(ledger: Ledger, index: PriceIndex, period: Period) -> Fraction:
    """Return what one replica like the newest would have cost, had it been warm since the endpoint was known."""
    if not ledger.lifetimes:
        return Fraction(0)
    latest, bill = ledger.lifetimes[-1], Bill(index)
    start = max(period.start_us, ledger.records.since_us)
    for rate in rates_of(latest.allocation, latest.accelerator, index.book.default_class):
        for low, high, price in index.pieces(rate.meter, rate.class_name, start, period.end_us):
            bill.add_time("", Phase.KEEP_WARM, rate, price.name if price else "", high - low)
    return sum((line.amount for line in bill.lines().values()), Fraction(0))


def _phases(ledger: Ledger, lines: Mapping[LineKey, Line], amounts: Amounts, period: Period) -> tuple[PhaseCost, ...]:
    spent = dict.fromkeys(Phase, 0)
    for life in ledger.lifetimes:
        for segment in life.segments:
            overlap = min(segment.end_us, period.end_us) - max(segment.start_us, period.start_us)
            spent[segment.phase] += max(overlap, 0)
    found = []
    for phase in Phase:
        if not spent[phase]:
            continue
        quantity = dict.fromkeys(Meter, Fraction(0))
        for key, line in lines.items():
            if key.phase == phase:
                quantity[key.meter] += line.quantity
        found.append(
            PhaseCost(
                phase=phase.value,
                replica_us=spent[phase],
                accelerator_seconds=_seconds(quantity[Meter.ACCELERATOR_TIME]),
                cpu_seconds=_seconds(quantity[Meter.CPU_TIME]),
                memory_gib_seconds=_seconds(quantity[Meter.MEMORY_TIME]),
                amount=_text(sum((amount for key, amount in amounts.items() if key.phase == phase), Decimal(0))),
            )
        )
    return tuple(found)


def _tokens(done: Sequence[Attempt], amounts: Amounts, unrecorded: int) -> TokenCost:
    return TokenCost(
        requests=len(done),
        input=sum(attempt.input_tokens for attempt in done),
        cached_input=sum(attempt.cached_tokens for attempt in done),
        output=sum(attempt.output_tokens for attempt in done),
        estimated_output=sum(attempt.output_tokens for attempt in done if attempt.estimated),
        unrecorded=unrecorded,
        amount=_text(sum((amount for key, amount in amounts.items() if not key.phase), Decimal(0))),
    )


def _consumers(bill: Bill, done: Iterable[Attempt], amounts: Amounts) -> tuple[ConsumerCost, ...]:
    whole = apportion(bill.active_us)
    requests, taken, given = Counter[str](), Counter[str](), Counter[str]()
    for attempt in done:
        requests[attempt.consumer] += 1
        taken[attempt.consumer] += attempt.input_tokens
        given[attempt.consumer] += attempt.output_tokens
    owed: dict[str, Decimal] = {}
    for key, amount in amounts.items():
        owed[key.consumer] = owed.get(key.consumer, Decimal(0)) + amount
    return tuple(
        ConsumerCost(
            consumer=name,
            active_us=whole.get(name, 0),
            requests=requests[name],
            input_tokens=taken[name],
            output_tokens=given[name],
            amount=_text(owed.get(name, Decimal(0))),
        )
        for name in sorted({*whole, *owed, *requests})
    )


def _notes(ledger: Ledger, lines: Mapping[LineKey, Line], index: PriceIndex, tokens: TokenCost) -> tuple[str, ...]:
    notes = []
    if tokens.unrecorded:
        notes.append(
            f"{tokens.unrecorded} requests or more were served and are not billed, since usage could not be recorded:"
            " their replicas' time is the owner's"
        )
    if tokens.estimated_output:
        notes.append(
            f"{tokens.estimated_output} of the tokens out are estimated, one for each event of streams that were cut"
        )
    unpriced = sorted({key.class_name or key.meter.value for key in lines if not key.price})
    if unpriced:
        notes.append(f"no price for {', '.join(unpriced)} in part of the period: add one to the price book")
    if any(life.allocation.resource and life.accelerator is None for life in ledger.lifetimes):
        default = index.book.default_class
        notes.append(
            f"nothing names the accelerators, so they are billed as {default}: set accelerator.className"
            if default
            else "nothing names the accelerators, so they have no price: set accelerator.className"
        )
    for flag in sorted({flag for life in ledger.lifetimes for flag in life.flags}):
        number = sum(flag in life.flags for life in ledger.lifetimes)
        notes.append(f"{flag.value.replace('_', ' ')} for {number} of {len(ledger.lifetimes)} replicas")
    return tuple(notes)


def _pod_segments(life: Lifetime, index: PriceIndex) -> PodSegments:
    return PodSegments(
        namespace=life.identity.namespace,
        endpoint=life.identity.endpoint,
        pod=life.identity.pod,
        pod_uid=life.pod_uid,
        node=life.node,
        accelerator=_class_of(life, index),
        units=life.allocation.units,
        cpu_milli=life.allocation.cpu_milli,
        memory_bytes=life.allocation.memory_bytes,
        created_us=life.created_us,
        allocated_from_us=life.start_us,
        allocated_to_us=life.end_us,
        ended=life.ended,
        flags=tuple(sorted(flag.value for flag in life.flags)),
        segments=tuple(
            SegmentView(from_us=segment.start_us, to_us=segment.end_us, phase=segment.phase.value)
            for segment in life.segments
        ),
    )


def _class_of(life: Lifetime, index: PriceIndex) -> str:
    if not life.allocation.resource:
        return ""
    return life.accelerator.class_name if life.accelerator else index.book.default_class


def _per_million(total: Decimal, tokens: int) -> str | None:
    return _text(round_money(Fraction(total) * 1_000_000 / tokens)) if tokens else None


def _seconds(us: Fraction) -> str:
    return _text(round_money(us / SECOND))


def _text(amount: Decimal) -> str:
    return f"{amount:f}"
