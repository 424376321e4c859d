"""Check what is sealed: that nothing of it was changed, and that it is what a fresh fold says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from zerotide.api.scalars import format_time
from zerotide.billing.prices import PriceIndex
from zerotide.billing.rating import Line, Period
from zerotide.billing.rollups import QUARTER
from zerotide.billing.sealing import ChargeKey, Charges, Link, Seal, broken, bucket_of, difference
from zerotide.billing.statements import Check
from zerotide.exporter.sealer import days, price_change, rated, reached
from zerotide.exporter.store import Store


def seal_checks(
    store: Store, index: PriceIndex, namespace: str, endpoint: str, period: Period, now_us: int
) -> tuple[Check, Check]:
    """Walk the whole chain, and fold what is sealed of endpoints (empty: any) in a period anew. Raises StoreError."""
    seals = store.seals
    while True:
        head, before = seals.head(), seals.late()
        found = compared(store, index, (namespace, endpoint), period, head, now_us)
        late = reached(store, [*before, *seals.late()])
        # What is sealed meanwhile is neither late any more nor in what was read.
        if seals.head() == head:
            return seals.walk(_chain), found.check(late)


def _chain(links: Iterator[Link]) -> Check:
    seen = 0

    def counted() -> Iterator[Link]:
        nonlocal seen
        for link in links:
            seen += link.seal is not None
            yield link

    found = tuple(broken(counted()))
    return Check(law="each seal is the hash of its charges and of the seal before it", checked=seen, differences=found)


class Comparison(NamedTuple):
    """What a fresh fold says more than was charged, of how many charges."""

    checked: int
    corrections: Charges

    def check(self, late: Mapping[tuple[str, str], int]) -> Check:
        """Return it as a check, without what may differ since an instant: the next seal corrects that."""
        return Check(
            law="sealed charges and their corrections are what a fresh fold says",
            checked=self.checked,
            differences=tuple(
                f"bucket {format_time(key.of_us)}, endpoint {key.namespace}/{key.endpoint}, consumer "
                f"{key.line.consumer}, {key.line.phase or key.line.meter}: a fresh fold says {line.amount} "
                f"{key.currency} and {line.quantity} in quantity more"
                for key, line in self.corrections.items()
                if key.of_us + QUARTER <= late.get((key.namespace, key.endpoint), key.of_us + QUARTER)
            ),
        )


def compared(
    store: Store, index: PriceIndex, where: tuple[str, str], period: Period, head: Seal | None, now_us: int
) -> Comparison:
    """Fold the sealed buckets of a period anew, up to where prices have changed since the newest seal."""
    first = store.seals.first_us()
    if head is None or first is None:
        return Comparison(0, {})
    repriced = price_change(store.seals, head, index)
    until = min(head.end_us, bucket_of(period.end_us), head.end_us if repriced is None else bucket_of(repriced))
    checked, corrections = 0, dict[ChargeKey, Line]()
    for day in days(Period(max(bucket_of(first), -(-period.start_us // QUARTER) * QUARTER), until)):
        charged = store.seals.charged(*where, day)
        checked += len(charged)
        corrections |= difference(rated(store, index, *where, day, now_us), charged)
    return Comparison(checked, corrections)
