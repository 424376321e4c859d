"""Objects that the tests put into a cluster, and waiting on them."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable
from typing import Any

from e2e.cluster.kube import Json, Kube

TRIVIAL = "zerotide/trivial:dev"
RESTRICTED: Json = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "runAsNonRoot": True,
    "runAsUser": 65532,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}


def namespace(client: Kube, restricted: bool = True) -> str:
    """Make a namespace; pods in a restricted one must be unprivileged. Its default service account is there."""
    name = f"t-{secrets.token_hex(4)}"
    labels = {"pod-security.kubernetes.io/enforce": "restricted"} if restricted else {}
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}
    client.call("POST", "/api/v1/namespaces", body)
    accounts = f"/api/v1/namespaces/{name}/serviceaccounts"
    seen(client, accounts, lambda account: account["metadata"]["name"] == "default")
    return name


def pod(name: str, image: str = TRIVIAL, **container: Any) -> Json:
    """Render a restricted pod with one container; `volumes` and `securityContext` go to the pod."""
    spec_parts = {key: container.pop(key) for key in ("volumes", "podSecurity", "restartPolicy") if key in container}
    spec: Json = {
        "terminationGracePeriodSeconds": 1,
        "automountServiceAccountToken": False,
        "containers": [
            {"name": "c", "image": image, "imagePullPolicy": "Never", "securityContext": RESTRICTED, **container}
        ],
    }
    if "podSecurity" in spec_parts:
        spec["securityContext"] = spec_parts.pop("podSecurity")
    metadata = {"name": name, "labels": {"app": name}}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {**spec, **spec_parts}}


def create(client: Kube, place: str, plural: str, body: Json) -> Json:
    """Create a core object in a namespace."""
    return client.call("POST", f"/api/v1/namespaces/{place}/{plural}", body)


def seen(client: Kube, path: str, holds: Callable[[Json], bool], timeout: float = 30.0) -> Json:
    """Follow a collection until an object of it satisfies a condition, and return it."""
    last: Json = {}
    with contextlib.closing(client.follow(path, timeout)) as changes:
        for kind, item in changes:
            if kind != "DELETED" and holds(item):
                return item
            last = item
    raise AssertionError(f"{path}: nothing came in {timeout:.0f} s; last seen: {last}")


def phase(client: Kube, place: str, name: str, *phases: str) -> Json:
    """Wait until a pod is in one of the phases and return it."""
    pods = f"/api/v1/namespaces/{place}/pods?fieldSelector=metadata.name={name}"
    return seen(client, pods, lambda item: item["status"].get("phase") in phases)
