"""Sums that reports are read from: by day and by quarter of an hour, so that any period of any zone is few rows.

Offsets of civil time are multiples of 15 minutes, so a month in any zone is whole days of UTC with quarters at its two
ends. Periods that cut a quarter have a rest, which is read from the requests themselves.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from zerotide.api.scalars import HOUR, MINUTE
from zerotide.billing.rating import Period
from zerotide.billing.reports import Report, Us
from zerotide.billing.statements import Check, check_sums
from zerotide.billing.usage import Attempt

QUARTER = 15 * MINUTE
DAY = 24 * HOUR
SPANS = (QUARTER, DAY)


class UsageKey(NamedTuple):
    """Whose usage of what."""

    namespace: str
    endpoint: str
    consumer: str


class Usage(NamedTuple):
    """Delivered requests and their tokens; `cached` is part of `input`, `estimated` part of `output`."""

    requests: int = 0
    input: int = 0
    cached: int = 0
    output: int = 0
    estimated: int = 0

    def plus(self, other: Usage) -> Usage:
        """Return the sum of both."""
        return Usage(*(one + another for one, another in zip(self, other, strict=True)))


class Cover(NamedTuple):
    """A period in whole days, whole quarters and rests; they partition it."""

    days: Period
    quarters: tuple[Period, ...]
    rests: tuple[Period, ...]


class UsageRow(Report):
    """What one consumer used of one endpoint."""

    namespace: str
    endpoint: str
    consumer: str
    requests: int
    input_tokens: int
    cached_tokens: int
    output_tokens: int
    estimated_output_tokens: int


class UsageReport(Report):
    """Delivered requests that ended within [from, to)."""

    from_us: Us
    to_us: Us
    as_of_us: Us
    rows: tuple[UsageRow, ...]


def cover(period: Period) -> Cover:
    """Return how a period is read from sums."""
    days = _whole(period, DAY)
    around = (Period(period.start_us, days.start_us), Period(days.end_us, period.end_us))
    quarters = tuple(whole for each in around if (whole := _whole(each, QUARTER)).end_us > whole.start_us)
    edges = [period.start_us, period.end_us]
    edges += [t for whole in (days, *quarters) if whole.end_us > whole.start_us for t in whole]
    edges.sort()
    # Between each two wholes nothing is left, so that what is not whole lies between an even edge and the next.
    rests = tuple(Period(low, high) for low, high in zip(edges[::2], edges[1::2], strict=True) if low < high)
    return Cover(days, quarters, rests)


def counted(attempts: Iterable[Attempt]) -> dict[UsageKey, Usage]:
    """Return the usage of delivered attempts."""
    found: dict[UsageKey, Usage] = {}
    for key, _, usage in contributions(attempts):
        found[key] = found.get(key, Usage()).plus(usage)
    return found


def contributions(attempts: Iterable[Attempt]) -> Iterable[tuple[UsageKey, int, Usage]]:
    """Yield whom each delivered attempt is counted for, when it ended, and what it adds."""
    for each in attempts:
        if each.ended_us is not None and each.delivered:
            estimated = each.output_tokens if each.estimated else 0
            usage = Usage(1, each.input_tokens, each.cached_tokens, each.output_tokens, estimated)
            yield UsageKey(each.namespace, each.endpoint, each.consumer), each.ended_us, usage


def usage_report(found: Mapping[UsageKey, Usage], period: Period, as_of_us: int) -> UsageReport:
    """Return usage as a report, in a stable order."""
    return UsageReport(
        from_us=period.start_us,
        to_us=period.end_us,
        as_of_us=as_of_us,
        rows=tuple(
            UsageRow(
                namespace=key.namespace,
                endpoint=key.endpoint,
                consumer=key.consumer,
                requests=usage.requests,
                input_tokens=usage.input,
                cached_tokens=usage.cached,
                output_tokens=usage.output,
                estimated_output_tokens=usage.estimated,
            )
            for key, usage in sorted(found.items())
        ),
    )


def rollup_check(summed: Mapping[UsageKey, Usage], raw: Mapping[UsageKey, Usage]) -> Check:
    """Return whether sums are what the requests themselves add up to."""

    def say(key: UsageKey, mine: Usage | None, theirs: Usage | None) -> str:
        return f"{key.namespace}/{key.endpoint}, consumer {key.consumer}: the sum is {mine}, its requests are {theirs}"

    return check_sums("sums of usage are those of the requests themselves", summed, raw, say)


def _whole(period: Period, span: int) -> Period:
    start, end = -(-period.start_us // span) * span, period.end_us // span * span
    return Period(start, end) if start < end else Period(period.end_us, period.end_us)
