"""What sealing needs of a ledger's storage, however it is kept."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from fractions import Fraction
from itertools import groupby
from typing import Any, NamedTuple, Protocol, TypeVar

from zerotide.billing.rating import Line, Period
from zerotide.billing.sealing import ChargeKey, Link, Posted, Seal, Sealed, row_of
from zerotide.billing.times import SumKey, TimeKey, sums_of

Result = TypeVar("Result")
Counters = Mapping[tuple[str, tuple[str, ...]], Fraction]
"""What is added to counters, by their name and the values of their labels."""


EVER = Period(-(2**62), 2**62)


class Late(NamedTuple):
    """An endpoint whose sealed charges from an instant on may differ now; `number` grows with each new record."""

    namespace: str
    endpoint: str
    since_us: int
    number: int


class Run(NamedTuple):
    """What is to be sealed in one transaction, after `head`: seals, the late records that they account for, counters.

    `book` is the text of the prices that they were made with, which `digest` is of.
    """

    head: Seal | None
    sealed: Sequence[Sealed]
    late: Sequence[Late]
    digest: str
    book: str
    counters: Counters


class Seals(Protocol):
    """The sealed part of a ledger; raises StoreError."""

    def head(self) -> Seal | None:
        """Return the newest seal."""

    def first_us(self) -> int | None:
        """Return an instant that nothing in the ledger is older than; None when there is nothing to bill."""

    def claim(self) -> int:
        """Begin a new epoch: from now on, nothing is sealed with an older one."""

    def announce(self, cut_us: int) -> None:
        """Let everything be noted as late from now on that is about time before an instant."""

    def late(self) -> list[Late]:
        """Return what has been noted as late and is not accounted for yet."""

    def charged(self, namespace: str, endpoint: str, period: Period) -> dict[ChargeKey, Line]:
        """Return what was charged in all for an endpoint's (empty: any) buckets within a period."""

    def posted(self, namespace: str, endpoint: str, period: Period) -> list[Posted]:
        """Return what is of an endpoint's (empty: any) buckets within a period, or was posted in them, in order."""

    def times(self, namespace: str, endpoint: str, span_us: int, period: Period) -> dict[TimeKey, Fraction]:
        """Return sealed time of an endpoint (empty: any) within a period of whole days or quarters, from their sums."""

    def book(self, digest: str) -> str | None:
        """Return the text of the prices by its digest."""

    def add(self, run: Run) -> bool:
        """Seal, unless somebody else has since `head`: then do nothing and return False.

        Raises SealRefused when the epoch is over.
        """

    def corrected(self, since_us: int) -> dict[int, int]:
        """Return the days of UTC that were corrected by seals of buckets from an instant on, each with the newest."""

    def walk(self, visit: Callable[[Iterator[Link]], Result], period: Period = EVER) -> Result:
        """Let a function see every bucket of a period with its seal and its charges as they are stored, in order."""


SEAL = "number, bucket_us, sealed_us, epoch, book, previous, hash"
ROW = "of_us, namespace, endpoint, consumer, meter, class_name, phase, price, units, currency, quantity, amount"
"""The columns of a seal and of a charge, in the order of `Seal` and of `sealing.Row`."""


def rows_of(run: Run) -> list[tuple[Any, ...]]:
    """Return the charges of a run as rows, each after the bucket in which it is posted."""
    return [(each.seal.bucket_us, *row_of(*charge)) for each in run.sealed for charge in each.charges.items()]


def exact(text: str) -> Fraction:
    """Return a sum as it is written: a fraction, or several with plus signs between them."""
    return sum(map(Fraction, text.split("+")), Fraction(0))


def times_of(run: Run) -> dict[SumKey, Fraction]:
    """Return what a run adds to the sums of time."""
    return sums_of(charge for each in run.sealed for charge in each.charges.items())


def links(seals: Iterable[Seal], rows: Iterable[Sequence[Any]]) -> Iterator[Link]:
    """Yield seals and rows of charges, both in the order of their buckets, by bucket."""
    seal, nothing = iter(seals), (None, iter(()))
    groups: Iterator[tuple[Any, Iterator[Sequence[Any]]]] = groupby(rows, key=lambda row: row[0])
    next_seal, (bucket, group) = next(seal, None), next(groups, nothing)
    while next_seal is not None or bucket is not None:
        if bucket is not None and (next_seal is None or bucket < next_seal.bucket_us):
            yield Link(bucket, None, [tuple(row[1:]) for row in group])
            bucket, group = next(groups, nothing)
            continue
        assert next_seal is not None
        mine = [tuple(row[1:]) for row in group] if bucket == next_seal.bucket_us else []
        if mine:
            bucket, group = next(groups, nothing)
        yield Link(next_seal.bucket_us, next_seal, mine)
        next_seal = next(seal, None)
