"""Time that replicas used up, by phase: summed when it is sealed, so that a report of months reads few rows.

Sums are of quarters of an hour and of days, like those of usage; what a period has beside whole quarters, and what is
not sealed yet, is folded. A sum is an exact fraction, since a device may be shared.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import timedelta, tzinfo
from fractions import Fraction
from itertools import islice, pairwise
from typing import NamedTuple

from zerotide.api.pricebook import Meter
from zerotide.api.scalars import HOUR, SECOND
from zerotide.billing.errors import InvalidPeriod
from zerotide.billing.fold import Phase
from zerotide.billing.ledger import Ledger
from zerotide.billing.periods import local, midnight
from zerotide.billing.rating import Line, Period, rates_of
from zerotide.billing.reports import Report, Us
from zerotide.billing.rollups import SPANS
from zerotide.billing.sealing import ChargeKey
from zerotide.billing.statements import Check, check_sums

METERS = (Meter.ACCELERATOR_TIME, Meter.CPU_TIME, Meter.MEMORY_TIME)
MOST = 1000
"""Parts that a report has at the most: each is read by itself."""
BY = ("total", "day", "hour")


class TimeKey(NamedTuple):
    """Whose replicas used up what in which phase."""

    namespace: str
    endpoint: str
    meter: str
    class_name: str
    phase: str


Times = Mapping[TimeKey, Fraction]
"""Device-, core- or GiB-microseconds."""
SumKey = tuple[int, int, TimeKey]
"""The length and the start of what a sum is of."""


class TimeRow(Report):
    """What an endpoint's replicas used up of one meter in one phase, within [from, to); a decimal of seconds."""

    from_us: Us
    to_us: Us
    namespace: str
    endpoint: str
    meter: str
    class_name: str
    phase: str
    seconds: str


class TimeReport(Report):
    """Time by phase over [from, to); up to `sealed_until_us` from what was sealed, after that folded."""

    from_us: Us
    to_us: Us
    as_of_us: Us
    sealed_until_us: Us
    rows: tuple[TimeRow, ...]


def sums_of(charges: Iterable[tuple[ChargeKey, Line]]) -> dict[SumKey, Fraction]:
    """Return what charges, corrections among them, add to the sums of time."""
    found: dict[SumKey, Fraction] = {}
    for key, line in charges:
        if key.line.meter in METERS:
            time = TimeKey(key.namespace, key.endpoint, key.line.meter.value, key.line.class_name, key.line.phase)
            for span in SPANS:
                place = (span, key.of_us // span * span, time)
                found[place] = found.get(place, Fraction(0)) + line.quantity
    return found


def spent(ledger: Ledger, period: Period, default_class: str) -> dict[TimeKey, Fraction]:
    """Return the time of a folded endpoint within a period."""
    found: dict[TimeKey, Fraction] = {}
    where = (ledger.records.namespace, ledger.records.endpoint)
    for life in ledger.lifetimes:
        rates = rates_of(life.allocation, life.accelerator, default_class)
        for low, high, phase in life.segments:
            us = min(high, period.end_us) - max(low, period.start_us)
            if us <= 0 or phase is Phase.QUEUED:
                continue
            for rate in rates:
                key = TimeKey(*where, rate.meter.value, rate.class_name, phase.value)
                found[key] = found.get(key, Fraction(0)) + rate.quantity * us
    return found


def added_times(parts: Iterable[Times]) -> dict[TimeKey, Fraction]:
    """Return the sum of times, without what adds up to nothing."""
    total: dict[TimeKey, Fraction] = {}
    for part in parts:
        for key, quantity in part.items():
            total[key] = total.get(key, Fraction(0)) + quantity
    return {key: quantity for key, quantity in total.items() if quantity}


def slices(period: Period, by: str, where: tzinfo) -> list[Period]:
    """Return a period cut at the days or the hours of a time zone, or (`total`) whole.

    Raises InvalidPeriod where these would be more than MOST.
    """
    if period.start_us >= period.end_us:
        return []
    edges = [edge for edge in islice(_edges(period, by, where), MOST + 48) if period.start_us < edge < period.end_us]
    if len(edges) > MOST:
        raise InvalidPeriod(f"the period has more than {MOST} parts by the {by}: ask for a shorter one, or by the day")
    return [Period(low, high) for low, high in pairwise([period.start_us, *edges, period.end_us])]


def _edges(period: Period, by: str, where: tzinfo) -> Iterator[int]:
    if by == "total":
        return
    day = local(period.start_us, where).date()
    while (start := midnight(day, where)) < period.end_us:
        end = midnight(day + timedelta(days=1), where)
        # Hours are counted from midnight on, so a day on which clocks change has 23 or 25 of them.
        yield from range(start, end, HOUR) if by == "hour" else (start,)
        day += timedelta(days=1)


def time_report(
    found: Iterable[tuple[Period, Times]], period: Period, as_of_us: int, sealed_until_us: int
) -> TimeReport:
    """Return times of slices as a report, in a stable order."""
    return TimeReport(
        from_us=period.start_us,
        to_us=period.end_us,
        as_of_us=as_of_us,
        sealed_until_us=sealed_until_us,
        rows=tuple(
            TimeRow(
                from_us=part.start_us,
                to_us=part.end_us,
                **key._asdict(),
                seconds=_decimal(round(quantity)),
            )
            for part, times in found
            for key, quantity in sorted(times.items())
        ),
    )


def time_check(summed: Times, charged: Times) -> Check:
    """Return whether sums of time are what the sealed charges add up to."""

    def say(key: TimeKey, mine: Fraction | None, theirs: Fraction | None) -> str:
        what = f"{key.namespace}/{key.endpoint}, {key.phase} ({key.class_name or key.meter})"
        return f"{what}: the sum is {mine or 0} us, its charges are {theirs or 0} us"

    return check_sums("sums of time are those of the sealed charges", summed, charged, say)


def _decimal(us: int) -> str:
    sign, us = ("-", -us) if us < 0 else ("", us)
    return f"{sign}{us // SECOND}.{us % SECOND:06}"
