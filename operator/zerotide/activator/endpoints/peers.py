"""The activators among which bounds are shared."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from zerotide.activator.processes.member import name_of

PROCESSES = "ZEROTIDE_PROCESSES"
"""Variable of an activator's container that says how many processes share its port."""
Object = Mapping[str, Any]


def ready_members(pods: Iterable[Object]) -> frozenset[str]:
    """Return the names of the activators that are ready and stay: of pods, or of each process of a pod with several."""
    return frozenset(name for pod in pods if _serves(pod) for name in _members(pod))


def _members(pod: Object) -> Iterator[str]:
    name, processes = pod["metadata"]["name"], 1
    for container in (pod.get("spec") or {}).get("containers") or ():
        for variable in container.get("env") or ():
            if variable.get("name") == PROCESSES and str(variable.get("value", "")).isdecimal():
                processes = int(variable["value"])
    yield from (name_of(name, number) for number in range(processes)) if processes > 1 else (name,)


def _serves(pod: Object) -> bool:
    if pod["metadata"].get("deletionTimestamp"):
        return False
    conditions = (pod.get("status") or {}).get("conditions") or ()
    return any(condition.get("type") == "Ready" and condition.get("status") == "True" for condition in conditions)
