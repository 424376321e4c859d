"""One endpoint's part of the ledger: what was recorded about it, folded into lifetimes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import NamedTuple

from zerotide.billing.facts import Fact
from zerotide.billing.fold import Flag, Lifetime, fold
from zerotide.billing.keepwarm import Floor, label_idle
from zerotide.billing.split import Flight
from zerotide.billing.usage import OPEN_LIMIT_US, Attempt, Unbilled


class ColdStart(StrEnum):
    """Who pays while a replica starts."""

    OWNER = "Owner"
    TRIGGER = "Trigger"
    PRO_RATA = "ProRata"


class Split(StrEnum):
    """How requests that are in flight at the same time share a replica."""

    EQUAL = "Equal"
    TOKENS = "Tokens"


class Wake(NamedTuple):
    """A finished wake, as the operator reported it; stages are (name, microseconds) and sum to the total."""

    endpoint_uid: str
    wake_id: str
    namespace: str
    endpoint: str
    time_us: int
    cause: str
    total_us: int
    stages: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Records:
    """Everything recorded about one endpoint (namespace and name): the input of every report on it.

    `owner` is the consumer that pays for time that nobody's request used, `since_us` when the endpoint was first
    known, `open_limit_us` its request timeout. The rules of sharing are those of the newest spec, for all times.
    """

    namespace: str
    endpoint: str
    owner: str
    since_us: int
    facts: Mapping[str, Iterable[Fact]]
    attempts: tuple[Attempt, ...] = ()
    floors: tuple[Floor, ...] = ()
    wakes: tuple[Wake, ...] = ()
    open_limit_us: int = OPEN_LIMIT_US
    cold_start: ColdStart = ColdStart.OWNER
    split: Split = Split.EQUAL
    unbilled: tuple[Unbilled, ...] = ()


@dataclass(frozen=True)
class Ledger:
    """The folded records: lifetimes in order of creation, and who was in flight on which pod."""

    records: Records
    lifetimes: tuple[Lifetime, ...]
    flights: Mapping[str, tuple[Flight, ...]] = field(default_factory=dict)
    as_of_us: int = 0
    """As known when it was folded."""


def flights_of(records: Records, as_of_us: int) -> dict[str, tuple[Flight, ...]]:
    """Return who was in flight on which pod, in order, as known at an instant."""
    flights: dict[str, list[Flight]] = {}
    by_tokens = records.split is Split.TOKENS
    for attempt in records.attempts:
        span = attempt.span(as_of_us, records.open_limit_us)
        if span.end_us > span.start_us:
            flights.setdefault(attempt.pod_uid, []).append(
                Flight(attempt.consumer, span, attempt.work if by_tokens else 0)
            )
    return {pod_uid: tuple(sorted(each, key=lambda flight: flight.span)) for pod_uid, each in flights.items()}


def folded(records: Records, as_of_us: int) -> Ledger:
    """Fold an endpoint's records as known at an instant; pods that did not exist yet are left out."""
    flights = flights_of(records, as_of_us)
    open_ended = {attempt.pod_uid for attempt in records.attempts if attempt.ended_us is None}
    lives = []
    for pod_uid, facts in records.facts.items():
        life = fold(facts, [flight.span for flight in flights.get(pod_uid, ())], as_of_us=as_of_us)
        if life is not None:
            if pod_uid in open_ended and life.ended:
                life = replace(life, flags=life.flags | {Flag.ACTIVITY_ESTIMATED})
            lives.append(life)
    lives.sort(key=lambda life: (life.created_us, life.pod_uid))
    return Ledger(records, tuple(label_idle(lives, records.floors)), flights, as_of_us)
