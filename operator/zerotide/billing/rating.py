"""Turn segments and tokens into money: quantities are summed as integers, multiplied once per line, rounded once.

A line is everything that shares endpoint, consumer, meter, class, phase and price. Its quantity is exact (device-µs,
core-µs, GiB-µs, pieces), its amount an exact fraction of the book's currency; `round_lines` makes decimals of them
such that the lines add up to the rounded total.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise
from typing import NamedTuple, TypeVar

from zerotide.billing.errors import InvalidPeriod
from zerotide.billing.facts import Accelerator, Allocation
from zerotide.billing.fold import Lifetime, Phase, Segment
from zerotide.billing.prices import Meter, PriceIndex
from zerotide.billing.spans import Span
from zerotide.billing.split import Flight, apportion, split_flights
from zerotide.billing.usage import Attempt

Key = TypeVar("Key", bound=Hashable)

GIB = 2**30
STARTING = frozenset({Phase.PROVISIONING, Phase.LOADING})
PLACES = 6
"""Decimal places of reported amounts: a wake of a small CPU endpoint costs some millionths."""


class Period(NamedTuple):
    """A half-open period of microseconds since the epoch."""

    start_us: int
    end_us: int

    def checked(self) -> Period:
        """Return the period, or raise InvalidPeriod when it ends before it starts."""
        if self.end_us < self.start_us:
            raise InvalidPeriod(f"the period ends ({self.end_us}) before it starts ({self.start_us}): swap from and to")
        return self

    def up_to(self, as_of_us: int) -> Period:
        """Return the period as far as it is over by then, or raise InvalidPeriod when it ends before it starts."""
        return Period(self.start_us, min(self.checked().end_us, as_of_us))


class LineKey(NamedTuple):
    """What a line is about; `price` is the price's name, empty where the book has none."""

    consumer: str
    meter: Meter
    class_name: str
    phase: str
    price: str


class Line(NamedTuple):
    """An exact quantity, in device-µs, core-µs, GiB-µs or pieces, and its exact amount."""

    quantity: Fraction
    amount: Fraction


class Rate(NamedTuple):
    """One meter of an allocation: `quantity` units of it are used up in each microsecond."""

    meter: Meter
    class_name: str
    quantity: Fraction


class Bill:
    """Sum up microseconds and pieces; money is made of them at the end, so order and grouping do not matter.

    `increment_us` is what the time of each line is rounded up to.
    """

    def __init__(self, index: PriceIndex, increment_us: int = 1) -> None:
        self.index, self._increment_us = index, increment_us
        self._times: dict[tuple[str, Phase, Rate, str], int | Fraction] = {}
        self._pieces: dict[tuple[str, Meter, str], int] = {}
        self.active_us: dict[str, Fraction] = {}
        """Each consumer's exact share of the time in which replicas were active."""

    def add_active(self, consumer: str, us: int | Fraction) -> None:
        """Add microseconds in which a replica worked for a consumer."""
        self.active_us[consumer] = self.active_us.get(consumer, Fraction(0)) + us

    def add_time(self, consumer: str, phase: Phase, rate: Rate, price: str, us: int | Fraction) -> None:
        """Add microseconds of an allocation's meter under one price (empty: unpriced)."""
        key = (consumer, phase, rate, price)
        self._times[key] = self._times.get(key, 0) + us

    def add_pieces(self, consumer: str, meter: Meter, number: int, t_us: int) -> None:
        """Add tokens or requests that were finished at an instant; what has no price is not on the bill."""
        price = self.index.at(meter, "", t_us)
        if price is not None and number:
            key = (consumer, meter, price.name)
            self._pieces[key] = self._pieces.get(key, 0) + number

    def lines(self) -> dict[LineKey, Line]:
        """Return each line's exact quantity and amount, in a stable order."""
        found: dict[LineKey, Line] = {}
        for (consumer, phase, rate, price), us in self._times.items():
            quantity = rate.quantity * self._counted(us)
            amount = quantity * self.index.rate(price) * self.index.multiplier(phase)
            add_line(found, LineKey(consumer, rate.meter, rate.class_name, phase.value, price), Line(quantity, amount))
        for (consumer, meter, price), number in self._pieces.items():
            line = Line(Fraction(number), number * self.index.rate(price))
            add_line(found, LineKey(consumer, meter, "", "", price), line)
        return dict(sorted(found.items()))

    def parts(self) -> dict[tuple[LineKey, Fraction], Line]:
        """Return the lines apart by how much each replica has of their meter, before time is rounded up."""
        found: dict[tuple[LineKey, Fraction], Line] = {}
        for (consumer, phase, rate, price), us in self._times.items():
            quantity = rate.quantity * Fraction(us)
            key = LineKey(consumer, rate.meter, rate.class_name, phase.value, price)
            found[key, rate.quantity] = Line(quantity, quantity * self.index.rate(price) * self.index.multiplier(phase))
        for (consumer, meter, price), number in self._pieces.items():
            line = Line(Fraction(number), number * self.index.rate(price))
            found[LineKey(consumer, meter, "", "", price), Fraction(1)] = line
        return found

    def _counted(self, us: int | Fraction) -> int | Fraction:
        """Round a line's time up to the book's increment: once, so that what it is made of does not matter."""
        return us if self._increment_us == 1 else -(-us // self._increment_us) * self._increment_us


def add_line(lines: dict[Key, Line], key: Key, line: Line) -> None:
    """Add a line to what is there under a key."""
    known = lines.get(key)
    lines[key] = Line(known.quantity + line.quantity, known.amount + line.amount) if known else line


def rates_of(allocation: Allocation, accelerator: Accelerator | None, default_class: str = "") -> list[Rate]:
    """Return what an allocation is billed by: its devices, or its cores and memory where it has none."""
    if allocation.resource:
        class_name = accelerator.class_name if accelerator else default_class
        share = accelerator.share if accelerator else Fraction(1)
        return [Rate(Meter.ACCELERATOR_TIME, class_name, allocation.units * share)]
    cpu = Rate(Meter.CPU_TIME, "", Fraction(allocation.cpu_milli, 1000))
    memory = Rate(Meter.MEMORY_TIME, "", Fraction(allocation.memory_bytes, GIB))
    return [rate for rate in (cpu, memory) if rate.quantity]


def bill_lifetime(
    bill: Bill,
    life: Lifetime,
    flights: Sequence[Flight],
    owner: str,
    period: Period,
    default_class: str = "",
    starters: Mapping[str, Fraction] | None = None,
) -> None:
    """Add what a pod used within a period: active time to the consumers in flight, the rest to the owner.

    `starters` are those who pay while it starts, by parts of 1; absent means the owner.
    """
    rates = rates_of(life.allocation, life.accelerator, default_class)
    span = Span(max(life.start_us, period.start_us), min(life.end_us, period.end_us))
    for start, end in pairwise(_price_edges(bill.index, rates, span)):
        spent, active_until = _spent(life.segments, start, end)
        # Up to the end of the last active segment, the pod is active exactly while a request is in flight.
        shares: dict[str, int | Fraction] = {**split_flights(flights, start, active_until)}
        rest = spent.pop(Phase.ACTIVE, 0) - sum(shares.values())
        if rest:
            shares[owner] = shares.get(owner, 0) + rest
        used: list[tuple[str, Phase, int | Fraction]] = [(who, Phase.ACTIVE, us) for who, us in shares.items()]
        for phase, us in spent.items():
            if starters and phase in STARTING:
                used += [(who, phase, us * fraction) for who, fraction in starters.items()]
            else:
                used.append((owner, phase, us))
        for consumer, share in shares.items():
            bill.add_active(consumer, share)
        for consumer, phase, part in used:
            for rate in rates:
                price = bill.index.at(rate.meter, rate.class_name, start)
                bill.add_time(consumer, phase, rate, price.name if price else "", part)


def _spent(segments: Iterable[Segment], start_us: int, end_us: int) -> tuple[dict[Phase, int], int]:
    """Return the microseconds of each phase within [start, end), and where the last active one of them ends."""
    spent: dict[Phase, int] = {}
    active_until = start_us
    for low, high, phase in segments:
        if low < end_us and high > start_us:
            high = min(high, end_us)
            spent[phase] = spent.get(phase, 0) + high - max(low, start_us)
            if phase is Phase.ACTIVE:
                active_until = high
    return spent, active_until


def _price_edges(index: PriceIndex, rates: Sequence[Rate], span: Span) -> list[int]:
    if span.end_us <= span.start_us:
        return []
    edges = {edge for rate in rates for piece in index.pieces(rate.meter, rate.class_name, *span) for edge in piece[:2]}
    return sorted({*span, *edges})


def bill_tokens(bill: Bill, attempts: Iterable[Attempt], period: Period) -> None:
    """Add the tokens and requests that were finished within a period; broken attempts are not billed."""
    if not any(bill.index.priced(meter) for meter in _PIECES):
        return
    for attempt in attempts:
        end = attempt.ended_us
        if end is None or not attempt.finished_in(*period):
            continue
        bill.add_pieces(attempt.consumer, Meter.INPUT_TOKENS, attempt.input_tokens - attempt.cached_tokens, end)
        bill.add_pieces(attempt.consumer, Meter.CACHED_INPUT_TOKENS, attempt.cached_tokens, end)
        bill.add_pieces(attempt.consumer, Meter.OUTPUT_TOKENS, attempt.output_tokens, end)
        bill.add_pieces(attempt.consumer, Meter.REQUESTS, 1, end)


_PIECES = (Meter.INPUT_TOKENS, Meter.CACHED_INPUT_TOKENS, Meter.OUTPUT_TOKENS, Meter.REQUESTS)


def round_money(amount: Fraction, places: int = PLACES) -> Decimal:
    """Return an amount with so many decimal places, half to even."""
    return Decimal(round(amount * 10**places)).scaleb(-places)


def round_lines(amounts: Mapping[Key, Fraction], places: int = PLACES) -> dict[Key, Decimal]:
    """Round every line such that their sum is the rounded total; each is within one unit of its exact amount."""
    scaled = {key: amount * 10**places for key, amount in amounts.items()}
    total = round(sum(scaled.values(), Fraction(0)))
    return {key: Decimal(units).scaleb(-places) for key, units in apportion(scaled, total).items()}
