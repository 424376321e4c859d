"""Choose what to read for the charges of a period: requests in flight in it, and all of those replicas that start.

Whoever woke one replica may pay for the starts of all that the same wake made. So where that is the rule, those of a
wake are read together, whether they lived in the period or not.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from operator import attrgetter
from typing import NamedTuple

from zerotide.billing.bearing import early_until
from zerotide.billing.facts import Fact
from zerotide.billing.ledger import ColdStart, Records
from zerotide.billing.rating import Period
from zerotide.billing.usage import Attempt
from zerotide.exporter.assembly import EndpointRow, Found, Key, assembled
from zerotide.exporter.store import OpenPod

DURING = "created_us > time_us - 1000000 AND created_us <= time_us + total_us"
"""Says in SQL that a pod was created during a wake: stamps of the API server are whole seconds."""


class Made(NamedTuple):
    """A replica that a wake may have made, and when it was created."""

    pod: OpenPod
    created_us: int


class Mates(NamedTuple):
    """The wakes that starts within a period may belong to, and replicas of these that did not live in it."""

    wakes: list[str]
    pods: list[OpenPod]


def mates(
    found: Found,
    period: Period,
    wakes_of: Callable[[Key, Iterable[str]], set[str]],
    made_by: Callable[[Key, Iterable[str]], list[Made]],
) -> Mates:
    """Return what else says who pays for the starts within a period, where it is whoever woke a replica."""
    keys = {key for key, rows in found.endpoints.items() if any(row.cold_start == ColdStart.TRIGGER for row in rows)}
    starting: dict[Key, list[str]] = {}
    for pod in found.pods:
        key = (pod.namespace, pod.endpoint)
        if key in keys and early_until(found.facts.get(pod.pod_uid, ()), period) is None:
            starting.setdefault(key, []).append(pod.pod_uid)
    known = {pod.pod_uid for pod in found.pods}
    wakes: list[str] = []
    pods: list[OpenPod] = []
    for key, uids in starting.items():
        mine = sorted(wakes_of(key, uids))
        wakes += mine
        pods += [made.pod for made in made_by(key, mine) if made.pod.pod_uid not in known]
    return Mates(wakes, pods)


def shared(endpoints: Mapping[Key, Sequence[EndpointRow]]) -> set[Key]:
    """Return the endpoints whose consumers may pay for starts."""
    return {key for key, rows in endpoints.items() if any(row.cold_start != ColdStart.OWNER for row in rows)}


def steady(
    pods: Sequence[OpenPod], facts: Mapping[str, Sequence[Fact]], sharing: Collection[Key], period: Period
) -> dict[str, int]:
    """Return the pods of which only requests in flight in a period bear on it, and those before an instant.

    Where consumers pay for starts, one that starts needs all requests of its endpoint's pods: any may have woken it.
    """
    found = {pod.pod_uid: early_until(facts.get(pod.pod_uid, ()), period) for pod in pods}
    starting = {(pod.namespace, pod.endpoint) for pod in pods if found[pod.pod_uid] is None} & set(sharing)
    return {
        pod.pod_uid: until
        for pod in pods
        if (until := found[pod.pod_uid]) is not None and (pod.namespace, pod.endpoint) not in starting
    }


def of_endpoint(attempts: Iterable[Attempt], namespace: str, endpoint: str) -> list[Attempt]:
    """Return the attempts of an endpoint (empty: any), in the order of their beginnings."""
    mine = (each for each in attempts if namespace in ("", each.namespace) and endpoint in ("", each.endpoint))
    return sorted(mine, key=attrgetter("forwarded_us", "request_id", "number"))


def assembled_with(found: Found, others: Mapping[Key, Sequence[EndpointRow]], period: Period) -> list[Records]:
    """Return records of endpoints that had replicas, and of those `others` that had requests and are known by then."""
    known = {key for key, rows in others.items() if any(row.created_us < period.end_us for row in rows)}
    return assembled(found._replace(endpoints={**found.endpoints, **others}), known, period.start_us)
