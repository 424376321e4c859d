"""The activators among which bounds are shared."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

Object = Mapping[str, Any]


def ready_members(pods: Iterable[Object]) -> frozenset[str]:
    """Return the names of the activators' pods that are ready and stay."""
    return frozenset(pod["metadata"]["name"] for pod in pods if _serves(pod))


def _serves(pod: Object) -> bool:
    if pod["metadata"].get("deletionTimestamp"):
        return False
    conditions = (pod.get("status") or {}).get("conditions") or ()
    return any(condition.get("type") == "Ready" and condition.get("status") == "True" for condition in conditions)
