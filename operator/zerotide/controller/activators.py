"""Which activators there are: those that endpoints' Services point at, and those whose demand must be known."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Activator:
    """One activator's pod; `serves` says that its Service may send it requests."""

    name: str
    uid: str
    address: str
    serves: bool


def activators(pods: Iterable[Mapping[str, Any]]) -> tuple[Activator, ...]:
    """Return the activators that may know of demand: with an address, not at their end, ready or leaving."""
    found = []
    for pod in pods:
        metadata, status = pod["metadata"], pod.get("status") or {}
        address = status.get("podIP")
        if not address or status.get("phase") in ("Succeeded", "Failed"):
            continue
        conditions = status.get("conditions") or []
        ready = any(item.get("type") == "Ready" and item.get("status") == "True" for item in conditions)
        leaving = "deletionTimestamp" in metadata
        if ready or leaving:
            found.append(Activator(metadata["name"], metadata["uid"], address, ready and not leaving))
    return tuple(sorted(found, key=lambda activator: activator.name))


def addresses(known: Iterable[Activator]) -> tuple[str, ...]:
    """Return the addresses that Services may point at."""
    return tuple(activator.address for activator in known if activator.serves)
