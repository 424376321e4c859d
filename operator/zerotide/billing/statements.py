"""Answers that go into detail: every line of a bill, what a charge is made of, what the laws say, what-ifs.

As in `reports`, times are microseconds and amounts decimal strings; amounts of lines add up to the total.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from zerotide.billing.reports import Amount, Report, SegmentView, Us


class BilledLine(Report):
    """One line: everything of an endpoint that shares consumer, meter, class, phase and price.

    `quantity` is in `unit` (device-seconds, core-seconds, GiB-seconds, tokens, requests), `unit_price` what `per` of
    them cost as quoted, `multiplier` the weight of the phase. `price` is empty where the book has none.
    """

    namespace: str
    endpoint: str
    consumer: str
    meter: str
    class_name: str
    phase: str
    price: str
    unit_price: str
    per: str
    multiplier: str
    quantity: str
    unit: str
    amount: Amount


class LineReport(Report):
    """All lines of a period."""

    currency: str
    from_us: Us
    to_us: Us
    as_of_us: Us
    lines: tuple[BilledLine, ...]
    total: Amount


class CorrectionLine(BilledLine):
    """What a line of an earlier month, [of_from_us, of_to_us), was too little by or, below nought, too much."""

    of_from_us: Us
    of_to_us: Us


class TermLine(Report):
    """What a term of the price book adds to or, below nought, takes off a consumer's month.

    `quantity` is what of it was used: seconds of devices, cores or GiB, tokens, requests, or money.
    """

    consumer: str
    name: str
    type: str
    month_us: Us
    quantity: str
    unit: str
    amount: Amount


class OtherCurrency(Report):
    """What a consumer was charged in a currency that the price book had before."""

    consumer: str
    currency: str
    amount: Amount


class UnrecordedLine(Report):
    """How many of a consumer's requests, or more, an endpoint served that could not be recorded and are not billed."""

    namespace: str
    endpoint: str
    consumer: str
    requests: int


class InvoiceReport(Report):
    """What is to be paid for a period: its lines, corrections of earlier months, and terms; the total is their sum.

    What was charged in another currency is told `elsewhere`, and is no part of it: nobody has said at which rate.
    Up to `sealed_until_us` lines are sealed and stay as they are; what comes after it may still change.
    """

    currency: str
    from_us: Us
    to_us: Us
    as_of_us: Us
    sealed_until_us: Us
    lines: tuple[BilledLine, ...]
    corrections: tuple[CorrectionLine, ...]
    terms: tuple[TermLine, ...] = ()
    elsewhere: tuple[OtherCurrency, ...] = ()
    unrecorded: tuple[UnrecordedLine, ...] = ()
    total: Amount


class CorrectionView(Report):
    """A correction as it is sealed: posted in a quarter of an hour, of an earlier one."""

    posted_us: Us
    of_us: Us
    namespace: str
    endpoint: str
    consumer: str
    meter: str
    class_name: str
    phase: str
    price: str
    quantity: str
    unit: str
    amount: Amount


class FactView(Report):
    """A recorded fact about a pod."""

    kind: str
    key: str
    time_us: Us


class Evidence(Report):
    """What is known of a pod: its facts, and the segments that follow from them."""

    namespace: str
    endpoint: str
    pod: str
    pod_uid: str
    ended: str
    flags: tuple[str, ...]
    requests: int
    segments: tuple[SegmentView, ...]
    facts: tuple[FactView, ...]


class Contribution(Report):
    """What one pod adds to one line."""

    pod_uid: str
    consumer: str
    meter: str
    class_name: str
    phase: str
    price: str
    quantity: str
    unit: str
    amount: Amount


class Explanation(Report):
    """The charges for replicas' time in a period, each back to its facts; contributions add up to the total."""

    currency: str
    from_us: Us
    to_us: Us
    as_of_us: Us
    contributions: tuple[Contribution, ...]
    pods: tuple[Evidence, ...]
    total: Amount
    corrections: tuple[CorrectionView, ...] = ()
    """Corrections that are of the period or were posted in it; the contributions are as if there had been none."""


class Check(Report):
    """One law, on how many things it was checked, and each that breaks it."""

    law: str
    checked: int
    differences: tuple[str, ...]


Key = TypeVar("Key", bound=tuple[Any, ...])
Sum = TypeVar("Sum")


def check_sums(
    law: str, one: Mapping[Key, Sum], other: Mapping[Key, Sum], say: Callable[[Key, Sum | None, Sum | None], str]
) -> Check:
    """Return whether two sets of sums are the same; `say` tells a key and what each has of it where they differ."""
    keys = {*one, *other}
    pairs = ((key, one.get(key), other.get(key)) for key in sorted(keys))
    return Check(
        law=law, checked=len(keys), differences=tuple(say(key, *pair) for key, *pair in pairs if pair[0] != pair[1])
    )


class Verification(Report):
    """All laws on live data."""

    from_us: Us
    to_us: Us
    as_of_us: Us
    checks: tuple[Check, ...]

    @property
    def differences(self) -> int:
        """Return how many things break a law."""
        return sum(len(check.differences) for check in self.checks)


class WhatIf(Report):
    """What the same usage costs by one price book; `unpriced` names what the book has no price for."""

    book: str
    currency: str
    total: Amount
    unpriced: tuple[str, ...]


class RateReport(Report):
    """One usage, by several price books."""

    from_us: Us
    to_us: Us
    as_of_us: Us
    books: tuple[WhatIf, ...]
