"""Answer how much time replicas used up in each phase: from sums as far as it is sealed, else from a fold."""

from __future__ import annotations

from datetime import tzinfo
from fractions import Fraction

from zerotide.billing.ledger import folded
from zerotide.billing.prices import PriceIndex
from zerotide.billing.rating import Period
from zerotide.billing.rollups import DAY, QUARTER, cover
from zerotide.billing.sealing import Seal
from zerotide.billing.statements import Check
from zerotide.billing.times import TimeKey, TimeReport, added_times, slices, spent, sums_of, time_check, time_report
from zerotide.exporter.sealer import days
from zerotide.exporter.store import Store

Found = dict[TimeKey, Fraction]
Where = tuple[str, str]


def times(
    store: Store, index: PriceIndex, where: Where, period: Period, now_us: int, by: str, zone: tzinfo
) -> TimeReport:
    """Return time by phase in each slice of a period. Raises StoreError."""
    period = period.up_to(now_us)
    parts = slices(period, by, zone)
    while True:
        head = store.seals.head()
        found = _found(store, index, where, parts, now_us, head)
        # What is sealed meanwhile would be missing, or there twice.
        if store.seals.head() == head:
            return time_report(found, period, now_us, head.end_us if head else 0)


def _found(
    store: Store, index: PriceIndex, where: Where, parts: list[Period], now_us: int, head: Seal | None
) -> list[tuple[Period, Found]]:
    until = head.end_us if head else 0
    found = []
    for part in parts:
        edge = min(max(until, part.start_us), part.end_us)
        covered = cover(Period(part.start_us, edge))
        sums = [store.seals.times(*where, DAY, covered.days)]
        sums += [store.seals.times(*where, QUARTER, quarters) for quarters in covered.quarters]
        rests = [*covered.rests, *([Period(edge, part.end_us)] if edge < part.end_us else [])]
        sums += [folded_times(store, index, where, rest, now_us) for rest in rests]
        found.append((part, added_times(sums)))
    return found


def folded_times(store: Store, index: PriceIndex, where: Where, period: Period, now_us: int) -> Found:
    """Return time by phase within a period by a fresh fold. Raises StoreError."""
    default = index.book.default_class
    return added_times(spent(folded(records, now_us), period, default) for records in store.records(*where, period))


def times_check(store: Store, where: Where, period: Period) -> Check:
    """Compare the sums of time of whole days with the sealed charges. Raises StoreError."""
    while True:
        head, first = store.seals.head(), store.seals.first_us()
        inside = cover(period).days
        known = Period(max(inside.start_us, (first or 0) // DAY * DAY), min(inside.end_us, head.end_us if head else 0))
        summed, charged = list[Found](), list[Found]()
        for day in days(known):
            whole = Period(day.start_us, day.start_us + DAY)
            summed.append(store.seals.times(*where, DAY, whole))
            made = sums_of(store.seals.charged(*where, whole).items())
            charged += [{key: quantity} for (span, _, key), quantity in made.items() if span == DAY]
        if store.seals.head() == head:
            return time_check(added_times(summed), added_times(charged))
