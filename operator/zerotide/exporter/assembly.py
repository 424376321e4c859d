"""Put the rows that a store found together into the records of each endpoint."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from zerotide.billing.facts import Fact
from zerotide.billing.keepwarm import Floor, since
from zerotide.billing.ledger import ColdStart, Records, Split, Wake
from zerotide.billing.usage import OPEN_LIMIT_US, Attempt, Unbilled
from zerotide.exporter.store import OpenPod

Key = tuple[str, str]


class EndpointRow(NamedTuple):
    """A row about an endpoint as it was last seen, with `floors` as (from_us, replicas)."""

    uid: str
    created_us: int
    owner: str
    request_timeout_us: int
    cold_start: str
    split: str


class Found(NamedTuple):
    """What a store found; wakes and endpoints by namespace and name, floors by the endpoint's uid, as they followed."""

    pods: Sequence[OpenPod]
    attempts: Sequence[Attempt]
    facts: Mapping[str, list[Fact]]
    endpoints: Mapping[Key, Sequence[EndpointRow]]
    floors: Mapping[str, Sequence[Floor]]
    wakes: Mapping[Key, Sequence[Wake]]
    unbilled: Sequence[Unbilled] = ()


def assembled(found: Found, known: Iterable[Key], since_us: int) -> list[Records]:
    """Return the records of every endpoint that has pods, or is `known`, in the order of their names."""
    by_endpoint: dict[Key, list[OpenPod]] = {key: [] for key in known}
    for pod in found.pods:
        by_endpoint.setdefault((pod.namespace, pod.endpoint), []).append(pod)
    requests: dict[Key, list[Attempt]] = {key: [] for key in by_endpoint}
    for attempt in found.attempts:
        # Those of an endpoint that nobody knows are nobody's.
        requests.get((attempt.namespace, attempt.endpoint), []).append(attempt)
    return [_one(found, key, by_endpoint[key], requests[key], since_us) for key in sorted(by_endpoint)]


def _one(found: Found, key: Key, pods: Sequence[OpenPod], requests: Sequence[Attempt], since_us: int) -> Records:
    known = sorted(found.endpoints.get(key, ()), key=lambda row: row.created_us)
    facts = {pod.pod_uid: found.facts.get(pod.pod_uid, []) for pod in pods}
    births = [row.created_us for row in known] or [
        t_us for each in facts.values() for _, _, kind, _, t_us in each if kind == "created"
    ]
    newest = known[-1] if known else None
    return Records(
        namespace=key[0],
        endpoint=key[1],
        owner=newest.owner if newest else f"{key[0]}/{key[1]}",
        since_us=min(births, default=since_us),
        facts=facts,
        attempts=tuple(requests),
        # The API server stamps whole seconds: of several specs of one second the newest generation's comes last.
        floors=tuple(sorted((floor for row in known for floor in found.floors.get(row.uid, ())), key=since)),
        wakes=tuple(found.wakes.get(key, ())),
        open_limit_us=newest.request_timeout_us if newest else OPEN_LIMIT_US,
        cold_start=ColdStart(newest.cold_start) if newest else ColdStart.OWNER,
        split=Split(newest.split) if newest else Split.EQUAL,
        unbilled=tuple(each for each in found.unbilled if (each.namespace, each.endpoint) == key),
    )
