"""Turn settled time into counters: each instant of each pod is counted once, in the phase known when it settles.

Time settles some seconds after it has passed, so that activity and ends have arrived. Counters and how far each pod
is counted are written in one transaction, so they never decrease and never count twice, also over a crash. What
becomes known later changes reports, not counters.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from itertools import pairwise
from typing import NamedTuple

from zerotide.api.scalars import SECOND
from zerotide.billing.fold import Lifetime, Phase
from zerotide.billing.ledger import Records, folded
from zerotide.billing.prices import PriceIndex
from zerotide.billing.rating import Bill, Period, bill_lifetime
from zerotide.billing.rollups import DAY
from zerotide.exporter.store import DayKey, OpenPod, Series, Settled, Store

GPU_SECONDS = "gpu_seconds"
CPU_SECONDS = "cpu_seconds"
COST = "cost"


class Increments(NamedTuple):
    """What settling adds to the counters, and how far it brings each pod."""

    pods: list[Settled]
    series: dict[Series, Fraction]
    costs: dict[DayKey, Fraction]


def due(store: Store, index: PriceIndex, until_us: int) -> Increments:
    """Return what the time before an instant that is not counted yet adds to the counters. Raises StoreError."""
    pods = [pod for pod in store.unsettled() if pod.settled_us < until_us]
    if not pods:
        return Increments([], {}, {})
    since_us = min(pod.settled_us for pod in pods)
    return count(store.pod_records(pods, since_us), pods, index, until_us)


def settle(store: Store, increments: Increments) -> Mapping[Series, Fraction]:
    """Count what is due, each of it at most once, and return every counter. Raises StoreError."""
    if increments.pods:
        store.settle(increments.pods, increments.series, increments.costs)
    return store.series()


def count(records: Iterable[Records], pods: Sequence[OpenPod], index: PriceIndex, until_us: int) -> Increments:
    """Return what these pods add to the counters between where each is settled and `until_us`."""
    open_pods = {pod.pod_uid: pod for pod in pods}
    series: dict[Series, Fraction] = {}
    costs: dict[DayKey, Fraction] = {}
    settled = []
    for each in records:
        ledger = folded(each, until_us)
        for life in ledger.lifetimes:
            pod = open_pods[life.pod_uid]
            for key, amount in _counted(life, pod, index, until_us).items():
                series[key] = series.get(key, Fraction(0)) + amount
            for day in _days(life, pod, until_us):
                _add_cost(series, costs, life, pod, index, day)
            over = life.segments if life.ended else ()
            settled.append(Settled(pod.cluster, pod.pod_uid, pod.settled_us, until_us, bool(life.ended), over))
    return Increments(settled, series, costs)


def _counted(life: Lifetime, pod: OpenPod, index: PriceIndex, until_us: int) -> dict[Series, Fraction]:
    counted: dict[Series, Fraction] = {}
    where = (pod.namespace, pod.endpoint)
    default = index.book.default_class
    accelerator = life.accelerator.class_name if life.accelerator else default
    gpus = life.allocation.units * (life.accelerator.share if life.accelerator else Fraction(1))
    cores = Fraction(life.allocation.cpu_milli, 1000)
    for segment in life.segments:
        us = min(segment.end_us, until_us) - max(segment.start_us, pod.settled_us)
        if segment.phase == Phase.QUEUED or us <= 0:
            continue
        if life.allocation.resource:
            _add(counted, (GPU_SECONDS, (*where, segment.phase.value, accelerator)), gpus * us / SECOND)
        else:
            _add(counted, (CPU_SECONDS, (*where, segment.phase.value)), cores * us / SECOND)
    return counted


def _days(life: Lifetime, pod: OpenPod, until_us: int) -> list[Period]:
    """Return what is to be counted of a pod, cut at each midnight of UTC."""
    low, high = max(life.start_us, pod.settled_us), min(life.end_us, until_us)
    starts = [low, *range((low // DAY + 1) * DAY, high, DAY)]
    return [Period(*edges) for edges in pairwise([*starts, high]) if edges[0] < edges[1]]


def _add_cost(
    series: dict[Series, Fraction],
    costs: dict[DayKey, Fraction],
    life: Lifetime,
    pod: OpenPod,
    index: PriceIndex,
    period: Period,
) -> None:
    """Add what a pod cost within a part of one day."""
    bill, currency = Bill(index), index.book.currency
    bill_lifetime(bill, life, (), "", period, index.book.default_class)
    day = DayKey(pod.namespace, pod.endpoint, period.start_us // DAY * DAY, currency)
    for key, line in bill.lines().items():
        _add(series, (COST, (pod.namespace, pod.endpoint, currency, key.phase)), line.amount)
        # What costs nothing has its day, too: an endpoint that ran did so at a price of 0.
        costs[day] = costs.get(day, Fraction(0)) + line.amount


def _add(counted: dict[Series, Fraction], key: Series, amount: Fraction) -> None:
    if amount:
        counted[key] = counted.get(key, Fraction(0)) + amount
