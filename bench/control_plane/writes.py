"""Writes that the API server took, by its own count; what only proves that somebody lives is not among them."""

from __future__ import annotations

import asyncio
import re
import time
from collections import Counter

from zerotide.api.names import MANAGER_OPERATOR
from zerotide.kube import Client
from zerotide.kube.resources import EVENTS

_SAMPLE = re.compile(r"^apiserver_request_total\{(?P<labels>[^}]*)\} (?P<value>\S+)$", re.MULTILINE)
_LABEL = re.compile(r'(\w+)="([^"]*)"')
_VERBS = {"POST", "PUT", "PATCH", "APPLY", "DELETE", "DELETECOLLECTION"}
SIGNS_OF_LIFE = {"leases", "nodes", "tokenreviews", "subjectaccessreviews", "selfsubjectreviews"}
"""Heartbeats of nodes and of whoever leads, and questions, which are asked by POST and stored nowhere."""


def counted(page: str) -> Counter[str]:
    """Return the writes by resource, subresources apart, on a page of the API server's metrics."""
    found: Counter[str] = Counter()
    for sample in _SAMPLE.finditer(page):
        labels = dict(_LABEL.findall(sample["labels"]))
        resource, below = labels.get("resource", ""), labels.get("subresource", "")
        asks = resource in SIGNS_OF_LIFE or (resource, below) == ("serviceaccounts", "token")
        if labels.get("verb") in _VERBS and resource and not asks:
            found[f"{resource}/{below}" if below else resource] += int(float(sample["value"]))
    return found


async def look(client: Client) -> Counter[str]:
    """Return the writes until now, by resource."""
    async with client.stream("GET", "/metrics") as response:
        return counted((await response.read()).decode())


async def told(client: Client) -> int:
    """Return how many Events the operator has written; Kubernetes' own controllers tell of nodes and pods."""
    events = (await client.list(EVENTS)).items
    managers = [{entry.get("manager") for entry in each["metadata"].get("managedFields") or ()} for each in events]
    return sum(MANAGER_OPERATOR in names for names in managers)


async def reasons(client: Client) -> Counter[str]:
    """Return how often each reason was told by whomever, as Events count it."""
    found: Counter[str] = Counter()
    for event in (await client.list(EVENTS)).items:
        found[event.get("reason") or ""] += int(event.get("count") or 1)
    return found


async def settled(client: Client, calm: float = 10.0, timeout: float = 180.0) -> Counter[str]:
    """Return the writes until now once there was none for `calm` seconds, or after `timeout` seconds.

    Kubernetes' own controllers are still telling of nodes that came a minute ago.
    """
    deadline, seen, since = time.monotonic() + timeout, await look(client), time.monotonic()
    while time.monotonic() - since < calm and time.monotonic() < deadline:
        await asyncio.sleep(1.0)
        if (now := await look(client)) != seen:
            seen, since = now, time.monotonic()
    return seen
