"""Which activators there are: those that endpoints' Services point at, and those whose demand must be known."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from zerotide.reconcile.pods import read


@dataclass(frozen=True, slots=True)
class Activator:
    """One activator's pod; `serves` says that Services may send it requests, `stays` that they may if no other does."""

    name: str
    uid: str
    address: str
    serves: bool
    stays: bool = False


def activators(pods: Iterable[Mapping[str, Any]], before: Container[str] = ()) -> tuple[Activator, ...]:
    """Return the activators that may know of demand: with an address, not at their end, ready or leaving.

    Ready is also one that is not so only because Kubernetes has lost its node for the moment. One that was among them
    `before`, by its uid, or whose pod says that it was ready once, and is so no longer, gets no new requests, but may
    have some as long as it runs: an operator that has just started knows of none before.
    """
    found = []
    for pod in pods:
        metadata, status = pod["metadata"], pod.get("status") or {}
        address = status.get("podIP")
        if not address or status.get("phase") in ("Succeeded", "Failed"):
            continue
        conditions = status.get("conditions") or []
        ready = any(item.get("type") == "Ready" and item.get("status") == "True" for item in conditions)
        leaving = "deletionTimestamp" in metadata
        stays = ready or _was_ready(status)
        if stays or leaving or (_runs(status) and (metadata["uid"] in before or read(pod).served)):
            serves, stays = ready and not leaving, stays and not leaving
            found.append(Activator(metadata["name"], metadata["uid"], address, serves, stays))
    return tuple(sorted(found, key=lambda activator: activator.name))


def addresses(known: Iterable[Activator]) -> tuple[str, ...]:
    """Return the addresses that Services may point at.

    Where none is ready these are the ones that were: once the API server is back after a minute, Kubernetes takes its
    nodes for lost until they report, and requests to where an activator was fare better than requests to nowhere.
    """
    known = tuple(known)
    serving = tuple(activator.address for activator in known if activator.serves)
    return serving or tuple(activator.address for activator in known if activator.stays)


def _was_ready(status: Mapping[str, Any]) -> bool:
    """Tell whether the kubelet, which alone writes the containers' part, saw all of them ready."""
    containers = status.get("containerStatuses") or []
    return bool(containers) and all(container.get("ready") for container in containers)


def _runs(status: Mapping[str, Any]) -> bool:
    return any("running" in (container.get("state") or {}) for container in status.get("containerStatuses") or [])
