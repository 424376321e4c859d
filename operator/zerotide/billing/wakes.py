"""Which pods a wake started, and what starting them cost."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction

from zerotide.api.scalars import SECOND
from zerotide.billing.fold import Lifetime
from zerotide.billing.ledger import Ledger, Wake
from zerotide.billing.prices import PriceIndex
from zerotide.billing.rating import STARTING, Bill, Period, bill_lifetime, round_money
from zerotide.billing.reports import Stage, StageSummary, WakeCost
from zerotide.billing.usage import Attempt
from zerotide.scaling.ranks import nearest_rank


def pods_by_wake(ledger: Ledger) -> dict[str, list[Lifetime]]:
    """Return the pods that each wake started, by wake id.

    A pod belongs to the wake that a request on it had waited for, or to the newest one during which it was created,
    whichever is newer: a wake that is over before its wish is stored has requests that name the one before it, or the
    pod where there was none. The API server's stamps are whole seconds, so a pod may seem created up to a second before
    its wake.
    """
    told: dict[str, str] = {}
    waited = [attempt for attempt in ledger.records.attempts if attempt.wake_id]
    for attempt in sorted(waited, key=lambda attempt: attempt.forwarded_us):
        told.setdefault(attempt.pod_uid, attempt.wake_id)
    wakes = sorted(ledger.records.wakes, key=lambda wake: wake.time_us)
    times = {wake.wake_id: wake.time_us for wake in wakes}
    started: dict[str, list[Lifetime]] = {}
    for life in ledger.lifetimes:
        known = told.get(life.pod_uid)
        known_us = times.get(known, life.created_us) if known is not None else life.created_us
        during = [
            wake
            for wake in wakes
            if wake.time_us - SECOND < life.created_us <= wake.time_us + wake.total_us
            and (known in (None, life.pod_uid) or wake.time_us > known_us)
        ]
        if during:
            started.setdefault(during[-1].wake_id, []).append(life)
        elif known is not None and life.created_us > known_us - SECOND:
            started.setdefault(known, []).append(life)
    return started


def wake_costs(ledger: Ledger, index: PriceIndex, period: Period) -> list[WakeCost]:
    """Return the wakes of a period, oldest first, each with the cost of provisioning and loading its pods."""
    started = pods_by_wake(ledger)
    wakes = sorted(ledger.records.wakes, key=lambda wake: (wake.time_us, wake.wake_id))
    return [
        _priced(wake, started.get(wake.wake_id, ()), ledger.records.owner, index)
        for wake in wakes
        if period.start_us <= wake.time_us < period.end_us
    ]


def requests_of(ledgers: Iterable[Ledger], period: Period) -> tuple[int, int]:
    """Return how many requests first went to a replica within a period, and how many of them had waited for a wake."""
    requests = cold = 0
    for ledger in ledgers:
        first: dict[str, Attempt] = {}
        for attempt in ledger.records.attempts:
            known = first.get(attempt.request_id)
            if known is None or attempt.number < known.number:
                first[attempt.request_id] = attempt
        within = [each for each in first.values() if period.start_us <= each.forwarded_us < period.end_us]
        requests += len(within)
        cold += sum(bool(each.cold) for each in within)
    return requests, cold


def summarize(wakes: Sequence[WakeCost]) -> tuple[StageSummary, ...]:
    """Return the spread of each stage over the wakes that have it, in order of appearance, `total` last."""
    lengths: dict[str, list[int]] = {}
    for wake in wakes:
        for stage in wake.stages:
            lengths.setdefault(stage.name, []).append(stage.us)
    lengths["total"] = [wake.total_us for wake in wakes]
    return tuple(
        StageSummary(name=name, p50_us=percentile(us, 50), p90_us=percentile(us, 90))
        for name, us in lengths.items()
        if us
    )


def percentile(values: Iterable[int], percent: int) -> int:
    """Return the smallest value that at least `percent` of the values do not exceed (nearest rank)."""
    return nearest_rank(sorted(values), percent)


def _priced(wake: Wake, lives: Sequence[Lifetime], owner: str, index: PriceIndex) -> WakeCost:
    return WakeCost(
        namespace=wake.namespace,
        endpoint=wake.endpoint,
        id=wake.wake_id,
        time_us=wake.time_us,
        cause=wake.cause,
        total_us=wake.total_us,
        stages=tuple(Stage(name=name, us=us) for name, us in wake.stages),
        amount=f"{round_money(_start_cost(lives, owner, index)):f}" if lives else None,
    )


def _start_cost(lives: Sequence[Lifetime], owner: str, index: PriceIndex) -> Fraction:
    bill = Bill(index)
    for life in lives:
        for segment in life.segments:
            if segment.phase in STARTING:
                bill_lifetime(bill, life, (), owner, Period(segment.start_us, segment.end_us), index.book.default_class)
    return sum((line.amount for line in bill.lines().values()), Fraction(0))
