"""Say what an endpoint waits for, how much of it there is, and which endpoints have it.

Endpoints of other namespaces are counted and not named: what one tenant runs is no business of another's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from zerotide.api.failures import InvalidQuantity
from zerotide.api.scalars import parse_quantity
from zerotide.api.wording import counted, listed
from zerotide.reconcile.capacity import requests_of
from zerotide.reconcile.devices import Device
from zerotide.reconcile.pods import Pod, Stage

_NAMED = 5

Holders = Mapping[str, Mapping[str, int]]
"""By resource, how many devices the replicas of each endpoint, `namespace/name`, hold."""


def holders(pods: Iterable[tuple[str, Pod]]) -> Holders:
    """Return who holds devices, from replicas by the key of their endpoint; one that leaves holds them still."""
    found: dict[str, dict[str, int]] = {}
    for key, pod in pods:
        if pod.ended or pod.stage < Stage.SCHEDULED:
            continue
        for resource, amount in requests_of(pod.spec or {}).items():
            if "/" in resource:
                known = found.setdefault(resource, {})
                known[key] = known.get(key, 0) + int(amount)
    return found


def waits_for(device: Device | None, key: str, nodes: Iterable[Mapping[str, Any]], held: Holders) -> str:
    """Return what an endpoint waits for and who has it; nothing for one without accelerators."""
    if device is None:
        return ""
    resource = device.spec.resource_name
    total = sum(_amount(node, resource) for node in nodes)
    asks = f"it waits for {device.text}"
    if not total:
        return f"{asks}, and no node has {resource} yet"
    others = {holder: count for holder, count in held.get(resource, {}).items() if holder != key}
    there = f"{asks}; of {total} {resource} on all nodes"
    if not others:
        return f"{there} no other endpoint holds any"
    return f"{there} endpoints hold {sum(others.values())}: {_names(key.partition('/')[0], others)}"


def _names(namespace: str, others: Mapping[str, int]) -> str:
    near = sorted(
        ((-count, key.partition("/")[2]) for key, count in others.items() if key.partition("/")[0] == namespace)
    )
    told = [f"{name} {-count}" for count, name in near[:_NAMED]]
    if more := near[_NAMED:]:
        told.append(f"{counted(len(more), 'other')} of this namespace {-sum(count for count, _ in more)}")
    far = sum(others.values()) + sum(count for count, _ in near)
    return listed([*told, f"{far} in other namespaces"] if far else told)


def _amount(node: Mapping[str, Any], resource: str) -> int:
    try:
        return int(parse_quantity(str(((node.get("status") or {}).get("allocatable") or {}).get(resource, 0))))
    except InvalidQuantity:
        return 0
