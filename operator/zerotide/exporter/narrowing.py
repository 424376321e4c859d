"""Choose what to read for the charges of a period: requests in flight in it, and all of those replicas that start."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from operator import attrgetter

from zerotide.billing.bearing import early_until
from zerotide.billing.facts import Fact
from zerotide.billing.ledger import ColdStart, Records
from zerotide.billing.rating import Period
from zerotide.billing.usage import Attempt
from zerotide.exporter.assembly import EndpointRow, Found, Key, assembled
from zerotide.exporter.store import OpenPod


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
