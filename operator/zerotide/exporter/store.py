"""What the exporter needs of a ledger's storage, however it is kept.

Every write is one durable transaction that can be repeated without effect: records have keys, and a key that is there
already is left alone. Methods block; `threads.Threaded` runs them beside the event loop.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from fractions import Fraction
from typing import Any, NamedTuple, Protocol

from zerotide.api.usage import AnyRecord, Unrecorded
from zerotide.billing.facts import Fact
from zerotide.billing.fold import Segment
from zerotide.billing.ledger import Records, Wake
from zerotide.billing.rating import Period
from zerotide.billing.rollups import Usage, UsageKey
from zerotide.billing.usage import Unbilled
from zerotide.exporter.holds import Holds
from zerotide.exporter.seals import Result, Seals

Series = tuple[str, tuple[str, ...]]
"""A counter's name and the values of its labels."""


class EndpointRecord(NamedTuple):
    """An endpoint as it was last seen; `floor` replicas are kept since `floor_from_us` by this generation.

    Where a schedule or an override does, `clock` says so, as `keepwarm.Floor` has it.
    """

    uid: str
    namespace: str
    name: str
    created_us: int
    owner: str
    request_timeout_us: int
    generation: int
    floor: int
    floor_from_us: int
    cold_start: str = "Owner"
    split: str = "Equal"
    clock: str = ""


class Refused(NamedTuple):
    """A line of a usage log that is no record, kept for a person to look at."""

    line: bytes
    error: str


class KeptLine(NamedTuple):
    """A refused line as it is kept, by its digest."""

    digest: str
    line: bytes


def unrecorded_row(record: Unrecorded) -> tuple[str, str, str, str, int, int, int]:
    """Return a record of what was not recorded, in the order of its table's columns."""
    who = (record.namespace, record.endpoint, record.consumer)
    return (record.id, *who, record.requests, record.from_us, record.to_us)


class OpenPod(NamedTuple):
    """A pod whose time is not yet fully counted; it is settled up to `settled_us` (0: not at all)."""

    cluster: str
    pod_uid: str
    namespace: str
    endpoint: str
    settled_us: int


class DayKey(NamedTuple):
    """What was spent on whose replicas on which day of UTC."""

    namespace: str
    endpoint: str
    day_us: int
    currency: str


class Settled(NamedTuple):
    """A pod that is counted from where it was settled on; `final` pods are never looked at again."""

    cluster: str
    pod_uid: str
    from_us: int
    until_us: int
    final: bool
    segments: tuple[Segment, ...] = ()
    """The segments of a final pod."""


class Store(Protocol):
    """A ledger's storage; raises StoreError."""

    seals: Seals
    """What of it is sealed."""
    holds: Holds
    """What is reserved of budgets."""

    def add_facts(self, facts: Iterable[Fact], observed_us: int) -> None:
        """Record facts about pods."""

    def add_usage(self, records: Sequence[AnyRecord], refused: Sequence[Refused], received_us: int) -> int:
        """Record requests, count the tokens of those that are complete now, and return how many records were new.

        Raises RecordUnfit where one of them can never be held; none of them is recorded then.
        """

    def add_endpoint(self, endpoint: EndpointRecord) -> None:
        """Record an endpoint and the replicas that it keeps."""

    def add_wake(self, wake: Wake) -> None:
        """Record a finished wake."""

    def living(self, cluster: str) -> dict[str, frozenset[str]]:
        """Return the pods of which no end is known, with the kinds of facts recorded about each."""

    def unsettled(self) -> list[OpenPod]:
        """Return the pods whose time is not yet fully counted."""

    def records(self, namespace: str, endpoint: str, period: Period) -> list[Records]:
        """Return what is known of endpoints (empty: any) that bears on a period."""

    def billable(self, namespace: str, endpoint: str, period: Period) -> list[Records]:
        """Return what of that is enough for the charges of a period; little, however long the pods have served.

        That is so of what is recent: to find what was in flight in a period, all that ended since is looked at.
        """

    def woken_since(self, namespace: str, endpoint: str, since_us: int) -> int:
        """Return from when on charges may differ because of what an endpoint's replicas and requests since then say.

        That is earlier where whoever woke a replica pays: one request may decide for all replicas of its wake.
        """

    def unbilled(self, namespace: str, endpoint: str, period: Period) -> list[Unbilled]:
        """Return what endpoints (empty: any) served within a period that nobody could record."""

    def owners(self, namespace: str, endpoint: str) -> dict[tuple[str, str], str]:
        """Return who owns endpoints (empty: any) that are known, by namespace and name."""

    def usage(self, namespace: str, endpoint: str, period: Period) -> dict[UsageKey, Usage]:
        """Return what consumers used of endpoints (empty: any) within a period, from sums."""

    def usage_raw(self, namespace: str, endpoint: str, period: Period) -> dict[UsageKey, Usage]:
        """Return the same, from the requests themselves."""

    def ended(self, period: Period) -> dict[int, int]:
        """Return how many requests ended on each day of UTC within a period of whole days."""

    def delivered(self, period: Period) -> dict[int, int]:
        """Return how many of them count as usage, from sums."""

    def read_requests(self, period: Period, visit: Callable[[Iterator[Sequence[Any]]], Result]) -> Result:
        """Let a function see the requests that ended within a period, with the records as they came."""

    def starts(self, namespace: str, endpoint: str, period: Period) -> list[Records]:
        """Return what is known of an endpoint's pods that lived in a period, with the requests begun in it.

        Enough for what starts cost, and little to read, however much the pods served before and after.
        """

    def costs(self, namespace: str, endpoint: str, since_us: int) -> dict[DayKey, Fraction]:
        """Return what settled time of endpoints (empty: any) cost, by day, from the day of an instant on."""

    def pod_records(self, pods: Sequence[OpenPod], since_us: int) -> list[Records]:
        """Return what is known of these pods by endpoint, with the attempts that were not over at `since_us`."""

    def settle(
        self, pods: Sequence[Settled], increments: Mapping[Series, Fraction], costs: Mapping[DayKey, Fraction]
    ) -> bool:
        """Add to counters and to the costs of days, and note how far pods are counted, in one transaction.

        Does nothing and returns False unless every pod is still where the increments begin, so that no time is counted
        twice, by whatever retry or second exporter.
        """

    def series(self) -> dict[Series, Fraction]:
        """Return the counters."""

    def refused(self) -> int:
        """Return how many refused lines are kept."""

    def refused_lines(self, after: str, most: int) -> list[KeptLine]:
        """Return refused lines in the order of their digests, from the first one after a digest on."""

    def forget_refused(self, digest: str) -> None:
        """Forget a refused line, whose record is kept by now."""

    def close(self) -> None:
        """Close the storage; later calls raise StoreUnavailable."""
