"""Check a rendered pod against the cluster's policy, as the admission policy of the chart does at apply.

The operator checks again because the admission policy can be switched off, and because a policy that became
narrower must hold for endpoints that were admitted before.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from zerotide.api.endpoint import Spec, parse_uri
from zerotide.reconcile.config import Policy
from zerotide.reconcile.failures import PolicyViolation


def check(spec: Spec, pod: Mapping[str, Any], policy: Policy) -> None:
    """Raise PolicyViolation, naming the first field that the policy forbids.

    `pod` is the rendered pod spec, podTemplate included.
    """
    problem = next(_problems(spec, pod, policy), None)
    if problem is not None:
        raise PolicyViolation(problem)


def _problems(spec: Spec, pod: Mapping[str, Any], policy: Policy) -> Iterator[str]:
    if spec.access.auth == "Open" and not policy.allow_open:
        yield "access.auth: Open is not allowed on this cluster: use APIKey, or have policy.allowOpen set"
    uri = parse_uri(spec.model.uri)
    if uri.scheme == "file" and not any(_within(uri.path, folder) for folder in policy.node_paths):
        yield f"model.uri: the node path {uri.path} is not in policy.nodePaths of this cluster"
    for key in ("hostNetwork", "hostPID", "hostIPC"):
        if pod.get(key):
            yield f"podTemplate.spec.{key} must not be set"
    mounts = {uri.path} if uri.scheme == "file" else set()
    for volume in pod.get("volumes") or []:
        if "hostPath" in volume and volume["hostPath"].get("path") not in mounts:
            yield f"podTemplate.spec.volumes[{volume.get('name')}]: hostPath is not allowed"
    for container in [*(pod.get("containers") or []), *(pod.get("initContainers") or [])]:
        yield from _container(container, policy)


def _container(container: Mapping[str, Any], policy: Policy) -> Iterator[str]:
    name = container.get("name")
    image = str(container.get("image") or "")
    if policy.images is not None and not any(_matches(image, entry) for entry in policy.images):
        yield f"container {name}: the image {image or '(none)'} is not in policy.images of this cluster"
    security = container.get("securityContext") or {}
    for key in ("privileged", "allowPrivilegeEscalation"):
        if security.get(key):
            yield f"container {name}: securityContext.{key} must not be true"
    if (security.get("capabilities") or {}).get("add"):
        yield f"container {name}: securityContext.capabilities.add must be empty"
    if any(port.get("hostPort") for port in container.get("ports") or []):
        yield f"container {name}: ports must not have a hostPort"


def _within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def _matches(image: str, entry: str) -> bool:
    return image.startswith(entry[:-1]) if entry.endswith("*") else image == entry
