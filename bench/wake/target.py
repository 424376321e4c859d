"""Who is woken: where requests for it go, and what a watch sees of its start."""

from __future__ import annotations

import json
from dataclasses import dataclass

from bench.knative.serving import Revision

QUESTION = [{"role": "user", "content": "Hi"}]


@dataclass(frozen=True)
class Target:
    """One sleeper. `service` is the namespace and name of the Service that takes requests, `headers` are their own."""

    service: tuple[str, str]
    path: str
    headers: dict[str, str]
    namespace: str
    deployment: str
    selector: str

    def request(self) -> bytes:
        """Return a small chat request."""
        body = json.dumps({"model": self.deployment, "messages": QUESTION, "max_tokens": 4}).encode()
        headers = {"Host": "bench", "Content-Type": "application/json", **self.headers, "Content-Length": len(body)}
        lines = [f"POST {self.path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
        return "\r\n".join(lines).encode() + body


def endpoint(namespace: str, name: str, key: str) -> Target:
    """Return an endpoint of ours, through the gateway."""
    path, headers = f"/endpoints/{namespace}/{name}/v1/chat/completions", {"Authorization": f"Bearer {key}"}
    return Target(
        ("zerotide-system", "zerotide-gateway"), path, headers, namespace, name, f"zerotide.dev/endpoint={name}"
    )


def revision(it: Revision) -> Target:
    """Return a revision of Knative's, through its activator, as an ingress sends requests for one at zero."""
    headers = {"Knative-Serving-Namespace": it.namespace, "Knative-Serving-Revision": it.name}
    service = ("knative-serving", "activator-service")
    return Target(service, "/v1/chat/completions", headers, it.namespace, it.deployment, it.selector)
