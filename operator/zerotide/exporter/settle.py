"""Turn settled time into counters: each instant of each pod is counted once, in the phase known when it settles.

Time settles some seconds after it has passed, so that activity and ends have arrived. Counters and how far each pod
is counted are written in one transaction, so they never decrease and never count twice, also over a crash. What
becomes known later changes reports, not counters.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from typing import NamedTuple

from zerotide.api.scalars import SECOND
from zerotide.billing.fold import Lifetime, Phase
from zerotide.billing.ledger import Records, folded
from zerotide.billing.prices import PriceIndex
from zerotide.billing.rating import Bill, Period, bill_lifetime
from zerotide.exporter.store import OpenPod, Series, Settled, Store

GPU_SECONDS = "gpu_seconds"
CPU_SECONDS = "cpu_seconds"
COST = "cost"


class Increments(NamedTuple):
    """What settling adds to the counters, and how far it brings each pod."""

    pods: list[Settled]
    series: dict[Series, Fraction]


def due(store: Store, index: PriceIndex, until_us: int) -> Increments:
    """Return what the time before an instant that is not counted yet adds to the counters. Raises StoreError."""
    pods = [pod for pod in store.unsettled() if pod.settled_us < until_us]
    if not pods:
        return Increments([], {})
    since_us = min(pod.settled_us for pod in pods)
    return count(store.pod_records(pods, since_us), pods, index, until_us)


def settle(store: Store, increments: Increments) -> Mapping[Series, Fraction]:
    """Count what is due, each of it at most once, and return every counter. Raises StoreError."""
    if increments.pods:
        store.settle(increments.pods, increments.series)
    return store.series()


def count(records: Iterable[Records], pods: Sequence[OpenPod], index: PriceIndex, until_us: int) -> Increments:
    """Return what these pods add to the counters between where each is settled and `until_us`."""
    open_pods = {pod.pod_uid: pod for pod in pods}
    series: dict[Series, Fraction] = {}
    settled = []
    for each in records:
        ledger = folded(each, until_us)
        for life in ledger.lifetimes:
            pod = open_pods[life.pod_uid]
            for key, amount in _counted(life, pod, index, until_us).items():
                series[key] = series.get(key, Fraction(0)) + amount
            over = life.segments if life.ended else ()
            settled.append(Settled(pod.cluster, pod.pod_uid, pod.settled_us, until_us, bool(life.ended), over))
    return Increments(settled, series)


def _counted(life: Lifetime, pod: OpenPod, index: PriceIndex, until_us: int) -> dict[Series, Fraction]:
    counted: dict[Series, Fraction] = {}
    where = (pod.namespace, pod.endpoint)
    default = index.book.default_class
    accelerator = life.accelerator.class_name if life.accelerator else default
    parts = life.accelerator.parts if life.accelerator else 1
    gpus = Fraction(life.allocation.units, parts)
    cores = Fraction(life.allocation.cpu_milli, 1000)
    for segment in life.segments:
        us = min(segment.end_us, until_us) - max(segment.start_us, pod.settled_us)
        if segment.phase == Phase.QUEUED or us <= 0:
            continue
        if life.allocation.resource:
            _add(counted, (GPU_SECONDS, (*where, segment.phase.value, accelerator)), gpus * us / SECOND)
        else:
            _add(counted, (CPU_SECONDS, (*where, segment.phase.value)), cores * us / SECOND)
    bill = Bill(index)
    bill_lifetime(bill, life, (), "", Period(pod.settled_us, until_us), default)
    for key, line in bill.lines().items():
        _add(counted, (COST, (*where, index.book.currency, key.phase)), line.amount)
    return counted


def _add(counted: dict[Series, Fraction], key: Series, amount: Fraction) -> None:
    if amount:
        counted[key] = counted.get(key, Fraction(0)) + amount
