"""The activators that act as one: of pods, or of each process of a pod with several."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from zerotide.activator.council.membership import Member
from zerotide.activator.processes.member import name_of

PROCESSES = "ZEROTIDE_PROCESSES"
"""Variable of an activator's container that says how many processes share its port."""
Object = Mapping[str, Any]


def members_of(pods: Iterable[Object], port: int) -> frozenset[Member]:
    """Return the activators that have an address and may have requests; those that are ready and stay lead.

    The first process of a pod listens for the others on `port`, the next ones on the ports after it.
    """
    return frozenset(member for pod in pods for member in _members(pod, port))


def _members(pod: Object, port: int) -> Iterator[Member]:
    status = pod.get("status") or {}
    address = status.get("podIP")
    if not address or status.get("phase") in ("Succeeded", "Failed"):
        return
    name, processes, leads = pod["metadata"]["name"], _processes(pod), _leads(pod)
    counts = leads or _leaves(pod)
    if processes <= 1:
        yield Member(name, address, port, leads, counts)
        return
    for number in range(processes):
        yield Member(name_of(name, number), address, port + number, leads, counts)


def _processes(pod: Object) -> int:
    processes = 1
    for container in (pod.get("spec") or {}).get("containers") or ():
        for variable in container.get("env") or ():
            if variable.get("name") == PROCESSES and str(variable.get("value", "")).isdecimal():
                processes = int(variable["value"])
    return processes


def _leaves(pod: Object) -> bool:
    return bool(pod["metadata"].get("deletionTimestamp"))


def _leads(pod: Object) -> bool:
    if _leaves(pod):
        return False
    conditions = (pod.get("status") or {}).get("conditions") or ()
    return any(condition.get("type") == "Ready" and condition.get("status") == "True" for condition in conditions)
