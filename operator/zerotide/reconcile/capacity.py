"""Tell whether any node could ever hold a pod: what it requests against what nodes have when they are empty.

Taints, selectors and what runs already are left out of account on purpose: they change, and a pod that waits for
them is not hopeless. A pod that requests more of something than any node has at all is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

from zerotide.api.failures import InvalidQuantity
from zerotide.api.scalars import parse_quantity

Amounts = dict[str, Decimal]


def requests_of(pod_spec: Mapping[str, Any]) -> Amounts:
    """Return what the scheduler reserves for a pod: its containers together, or its largest init container."""
    total: Amounts = {}
    for container in pod_spec.get("containers") or []:
        for name, amount in _requests(container).items():
            total[name] = total.get(name, Decimal(0)) + amount
    for container in pod_spec.get("initContainers") or []:
        for name, amount in _requests(container).items():
            total[name] = max(total.get(name, Decimal(0)), amount)
    return total


def obstacle(pod_spec: Mapping[str, Any], nodes: Iterable[Mapping[str, Any]]) -> str:
    """Return why no node could ever hold the pod, or an empty string if one could, or if no node is known."""
    requested = requests_of(pod_spec)
    offers = [_amounts((node.get("status") or {}).get("allocatable") or {}) for node in nodes]
    if not offers or any(all(offer.get(name, 0) >= amount for name, amount in requested.items()) for offer in offers):
        return ""
    for name, amount in sorted(requested.items()):
        largest = max(offer.get(name, Decimal(0)) for offer in offers)
        if amount > largest:
            return f"it requests {_text(amount)} of {name}, and the largest node has {_text(largest)}"
    return "no single node has all that it requests"


def _requests(container: Mapping[str, Any]) -> Amounts:
    resources = container.get("resources") or {}
    # A limit without a request is a request too; the API server fills it in.
    return _amounts({**(resources.get("limits") or {}), **(resources.get("requests") or {})})


def _amounts(quantities: Mapping[str, Any]) -> Amounts:
    amounts: Amounts = {}
    for name, text in quantities.items():
        try:
            amounts[name] = parse_quantity(str(text))
        except InvalidQuantity:
            continue
    return amounts


def _text(amount: Decimal) -> str:
    if amount >= 2**20 and amount == int(amount):
        return f"{amount / 2**30:.1f}Gi" if amount >= 2**30 else f"{amount / 2**20:.0f}Mi"
    return f"{amount.normalize():f}"
