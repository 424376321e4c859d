"""Writes that the API server took, by its own count; what only proves that somebody lives is not among them."""

from __future__ import annotations

import re
from collections import Counter

from zerotide.kube import Client

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
