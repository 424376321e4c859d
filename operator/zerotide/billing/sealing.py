"""Sealed charges: what quarters of an hour cost, written once, each seal covering the one before it.

A seal is made of a quarter (bucket) some time after its end. It holds the charges of that bucket and corrections of
earlier ones: whatever became known later, by late facts or by prices with an earlier date, is the difference between
what a fold says now and what was charged. So charges with their corrections add up to what a fresh fold says, and what
was sealed never changes. A seal's hash covers its canonical text, in which the hash of the seal before stands.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import NamedTuple, TypeVar

from zerotide.api.pricebook import Meter
from zerotide.api.scalars import format_time
from zerotide.billing.ledger import Ledger
from zerotide.billing.prices import PriceBookSpec, PriceIndex
from zerotide.billing.rating import Bill, Line, LineKey, Period, add_line, bill_lifetime, bill_tokens
from zerotide.billing.rollups import QUARTER
from zerotide.billing.starters import starters

RULES = 4
"""The version of how facts become money: a change that alters results raises it, and what is sealed is corrected."""
GENESIS = "0" * 64
"""What the first seal names as the hash before it."""

Piece = TypeVar("Piece")


class ChargeKey(NamedTuple):
    """What a charge is for: a line of an endpoint in a bucket. `units` are the devices, cores or GiB of each replica.

    They stand apart because time is rounded up in the time of a replica, not in that of its devices.
    """

    of_us: int
    namespace: str
    endpoint: str
    line: LineKey
    units: Fraction
    currency: str


Charges = Mapping[ChargeKey, Line]


class Seal(NamedTuple):
    """A bucket that is closed. `book` is the digest of the prices, `epoch` that of the exporter that sealed it."""

    number: int
    bucket_us: int
    sealed_us: int
    epoch: int
    book: str
    previous: str
    hash: str

    @property
    def end_us(self) -> int:
        """Return the end of its bucket, where the next one begins."""
        return self.bucket_us + QUARTER


class Link(NamedTuple):
    """A bucket as a store has it: its seal, which may be missing, and the rows of its charges."""

    bucket_us: int
    seal: Seal | None
    rows: Sequence[Sequence[object]]


class Posted(NamedTuple):
    """A charge as it stands in the seal of a bucket; a correction where it is of an earlier one."""

    bucket_us: int
    key: ChargeKey
    line: Line


class Sealed(NamedTuple):
    """A seal with what it covers: charges of its own bucket, and corrections, which are of earlier ones."""

    seal: Seal
    charges: Charges


def bucket_of(t_us: int) -> int:
    """Return the start of the bucket that an instant lies in."""
    return t_us // QUARTER * QUARTER


def charges(ledger: Ledger, index: PriceIndex, period: Period) -> dict[ChargeKey, Line]:
    """Return what an endpoint's buckets within a period cost; the period must consist of whole buckets."""
    bills: dict[int, Bill] = {}
    owner, starting = ledger.records.owner, starters(ledger)
    for life in ledger.lifetimes:
        low, high = max(life.start_us, period.start_us), min(life.end_us, period.end_us)
        flights = _spread(((each, *each.span) for each in ledger.flights.get(life.pod_uid, ())), low, high)
        for bucket, segments in _spread(((each, *each[:2]) for each in life.segments), low, high).items():
            bill = bills.setdefault(bucket, Bill(index))
            part, whole = replace(life, segments=tuple(segments)), Period(bucket, bucket + QUARTER)
            payers = starting.get(life.pod_uid)
            bill_lifetime(bill, part, flights.get(bucket, ()), owner, whole, index.book.default_class, payers)
    for attempt in ledger.records.attempts:
        if attempt.finished_in(*period) and attempt.ended_us is not None:
            bucket = bucket_of(attempt.ended_us)
            bill_tokens(bills.setdefault(bucket, Bill(index)), (attempt,), Period(bucket, bucket + QUARTER))
    where = (ledger.records.namespace, ledger.records.endpoint)
    return {
        ChargeKey(bucket, *where, key, units, index.book.currency): line
        for bucket, bill in sorted(bills.items())
        for (key, units), line in bill.parts().items()
        if line.quantity
    }


def _spread(pieces: Iterable[tuple[Piece, int, int]], low_us: int, high_us: int) -> dict[int, list[Piece]]:
    """Return the pieces, each with its start and end, of each bucket of [low, high); some are in several."""
    found: dict[int, list[Piece]] = {}
    for piece, start, end in pieces:
        for bucket in range(bucket_of(max(start, low_us)), min(end, high_us), QUARTER):
            found.setdefault(bucket, []).append(piece)
    return found


def added(parts: Iterable[Charges]) -> dict[ChargeKey, Line]:
    """Return the sum of charges, without what adds up to nothing."""
    total: dict[ChargeKey, Line] = {}
    for part in parts:
        for key, line in part.items():
            add_line(total, key, line)
    return {key: line for key, line in total.items() if any(line)}


def difference(now: Charges, charged: Charges) -> dict[ChargeKey, Line]:
    """Return the corrections that make what was charged into what is so now."""
    return added((now, {key: Line(-line.quantity, -line.amount) for key, line in charged.items()}))


def sealed(
    head: Seal | None, buckets: Sequence[int], found: Charges, *, sealed_us: int, epoch: int, book: str
) -> list[Sealed]:
    """Return the seals of consecutive buckets, chained to `head`.

    Charges of buckets that are not among these are corrections, and go into the first seal.
    """
    by_bucket: dict[int, dict[ChargeKey, Line]] = {bucket: {} for bucket in buckets}
    for key, line in found.items():
        by_bucket[key.of_us if key.of_us in by_bucket else buckets[0]][key] = line
    made: list[Sealed] = []
    for bucket in buckets:
        number, previous = (head.number + 1, head.hash) if head else (1, GENESIS)
        open_ = Seal(number, bucket, sealed_us, epoch, book, previous, "")
        head = open_._replace(hash=digest(open_, (row_of(*charge) for charge in by_bucket[bucket].items())))
        made.append(Sealed(head, by_bucket[bucket]))
    return made


def digest(seal: Seal, rows: Iterable[Sequence[object]]) -> str:
    """Return the SHA-256 of a seal's canonical text, its own hash aside."""
    lines = sorted(_canonical(list(row)) for row in rows)
    text = "\n".join((_canonical(["zerotide.dev/seal/1", *seal[:-1]]), *lines, ""))
    return hashlib.sha256(text.encode()).hexdigest()


def broken(links: Iterable[Link]) -> Iterator[str]:
    """Yield what is wrong with a chain, the earliest bucket first."""
    before: Seal | None = None
    for link in links:
        seal, where = link.seal, f"bucket {format_time(link.bucket_us)}"
        if seal is None:
            yield f"{where} holds charges that no seal covers"
            continue
        if digest(seal, link.rows) != seal.hash:
            yield f"{where} (seal {seal.number}) was changed: its hash is not that of what it covers"
        elif seal.previous != (before.hash if before else GENESIS):
            yield f"{where} (seal {seal.number}) does not follow the seal before it: one was changed or removed"
        before = seal


Row = tuple[int, str, str, str, str, str, str, str, str, str, str, str]


def row_of(key: ChargeKey, line: Line) -> Row:
    """Return a charge as a row: numbers as exact fractions in text, so that no store rounds them."""
    return (
        key.of_us,
        key.namespace,
        key.endpoint,
        key.line.consumer,
        key.line.meter.value,
        key.line.class_name,
        key.line.phase,
        key.line.price,
        str(key.units),
        key.currency,
        str(line.quantity),
        str(line.amount),
    )


def charge_of(row: Sequence[object]) -> tuple[ChargeKey, Line]:
    """Return the charge of a row; raise ValueError when it holds none."""
    of_us, namespace, endpoint, consumer, meter, class_name, phase, price, units, currency, *numbers = row
    line = LineKey(str(consumer), Meter(str(meter)), str(class_name), str(phase), str(price))
    key = ChargeKey(int(str(of_us)), str(namespace), str(endpoint), line, Fraction(str(units)), str(currency))
    quantity, amount = (Fraction(str(number)) for number in numbers)
    return key, Line(quantity, amount)


def book_text(book: PriceBookSpec) -> str:
    """Return the canonical text of the prices and of the version of the rules, as a seal's `book` covers them."""
    return _canonical({"rules": RULES, "book": book.model_dump(mode="json", by_alias=True, exclude_none=True)})


def book_digest(text: str) -> str:
    """Return the digest of such a text."""
    return hashlib.sha256(text.encode()).hexdigest()


def _canonical(value: object) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False, sort_keys=True)
