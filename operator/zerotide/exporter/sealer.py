"""Seal what is due: the buckets that ended long enough ago, and corrections of those that were sealed before.

What comes late is announced first, then read: a record of time before the end of what is being sealed is noted as
late from then on, so it is either part of what is read or accounted for by the next seal. All that is found goes into
the store in one transaction, if nobody else has sealed meanwhile.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from fractions import Fraction

from zerotide.api.scalars import SECOND
from zerotide.billing.ledger import Records, folded
from zerotide.billing.prices import Meter, PriceBookSpec, PriceIndex, first_difference
from zerotide.billing.rating import Line, Period
from zerotide.billing.rollups import DAY, QUARTER
from zerotide.billing.sealing import (
    RULES,
    ChargeKey,
    Charges,
    Seal,
    added,
    book_digest,
    book_text,
    bucket_of,
    charges,
    difference,
    sealed,
)
from zerotide.exporter.seals import Late, Run, Seals
from zerotide.exporter.store import Series, Store

MOST = DAY // QUARTER
"""Buckets that are sealed in one transaction, after the exporter was down."""
COST_CORRECTIONS = "cost_corrections"
GPU_CORRECTIONS = "gpu_corrections"


def seal_due(store: Store, index: PriceIndex, epoch: int, now_us: int, grace_us: int) -> int:
    """Seal the buckets that ended `grace_us` ago, a day of them at most, and return how many.

    Raises StoreError; SealRefused when another exporter has claimed the sealing.
    """
    seals = store.seals
    head, first = seals.head(), seals.first_us()
    if first is None:
        return 0
    start = head.end_us if head else bucket_of(first)
    end = min(bucket_of(now_us - grace_us), start + MOST * QUARTER)
    if end <= start:
        return 0
    seals.announce(end)
    late = seals.late()
    fresh = rated(store, index, "", "", Period(start, end), now_us)
    corrections = added(
        difference(rated(store, index, *where, day, now_us), seals.charged(*where, day))
        for where, since_us in _reach(store, head, index, late).items()
        for day in days(Period(max(bucket_of(since_us), bucket_of(first)), start))
    )
    book = book_text(index.book)
    made = sealed(
        head,
        range(start, end, QUARTER),
        {**fresh, **corrections},
        sealed_us=now_us,
        epoch=epoch,
        book=book_digest(book),
    )
    run = Run(head, made, late, book_digest(book), book, counted(corrections))
    return len(made) if seals.add(run) else 0


def rated(
    store: Store, index: PriceIndex, namespace: str, endpoint: str, period: Period, now_us: int
) -> dict[ChargeKey, Line]:
    """Return what an endpoint's (empty: any) buckets within a period cost by a fresh fold. Raises StoreError."""
    found = for_charges(store, namespace, endpoint, period, now_us)
    return added(charges(folded(records, now_us), index, period) for records in found)


def for_charges(store: Store, namespace: str, endpoint: str, period: Period, now_us: int) -> list[Records]:
    """Return what is enough for the charges of a period, read in whichever way is shorter. Raises StoreError."""
    # Of what is long past, all that ended since would be more to look at than all that its replicas served.
    read = store.billable if now_us - period.start_us <= DAY else store.records
    return read(namespace, endpoint, period)


def counted(corrections: Charges) -> dict[Series, Fraction]:
    """Return what corrections add to counters, which only grow: what was added and what was taken away stand apart."""
    found: dict[Series, Fraction] = {}
    for key, line in corrections.items():
        where, sign = (key.namespace, key.endpoint), "minus" if line.amount < 0 else "plus"
        _add(found, (COST_CORRECTIONS, (*where, key.currency, key.line.phase, sign)), abs(line.amount))
        if key.line.meter is Meter.ACCELERATOR_TIME:
            sign = "minus" if line.quantity < 0 else "plus"
            labels = (*where, key.line.phase, key.line.class_name, sign)
            _add(found, (GPU_CORRECTIONS, labels), abs(line.quantity) / SECOND)
    return found


def _add(found: dict[Series, Fraction], key: Series, number: Fraction) -> None:
    if number:
        found[key] = found.get(key, Fraction(0)) + number


def _reach(store: Store, head: Seal | None, index: PriceIndex, late: Iterable[Late]) -> Mapping[tuple[str, str], int]:
    """Return from when on the charges of endpoints may differ: of all of them, where prices do."""
    since = reached(store, late)
    repriced = price_change(store.seals, head, index)
    return since if repriced is None else {("", ""): min([repriced, *since.values()])}


def reached(store: Store, late: Iterable[Late]) -> dict[tuple[str, str], int]:
    """Return from when on what came late may change the charges of which endpoints. Raises StoreError."""
    since: dict[tuple[str, str], int] = {}
    for each in late:
        key = (each.namespace, each.endpoint)
        since[key] = min(since.get(key, each.since_us), each.since_us)
    return {key: store.woken_since(*key, since_us) for key, since_us in since.items()}


def price_change(seals: Seals, head: Seal | None, index: PriceIndex) -> int | None:
    """Return from when on prices differ from those of the newest seal, None where they never do."""
    text = seals.book(head.book) if head else None
    if text is None or head is None or head.book == book_digest(book_text(index.book)):
        return None
    known = json.loads(text)
    return first_difference(PriceBookSpec.model_validate(known["book"]), index.book) if known["rules"] == RULES else 0


def days(period: Period) -> Iterator[Period]:
    """Yield a period by days of UTC, so that no more is read at a time."""
    low = period.start_us
    while low < period.end_us:
        high = min((low // DAY + 1) * DAY, period.end_us)
        yield Period(low, high)
        low = high
