"""Check a rendered pod against the cluster's policy, as the admission policy of the chart does at apply.

The operator checks again because the admission policy can be switched off, and because a policy that became
narrower must hold for endpoints that were admitted before. One table of bad specs is tried on both.

A podTemplate is any JSON, so nothing here trusts a type: what is no map where a map belongs is a problem too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from zerotide.api.endpoint import Spec, parse_uri
from zerotide.reconcile.config import Policy
from zerotide.reconcile.failures import PolicyViolation

_POD = "podTemplate.spec"
_APPARMOR = "container.apparmor.security.beta.kubernetes.io/"


def check(spec: Spec, pod: Mapping[str, Any], policy: Policy, annotations: Mapping[str, str] | None = None) -> None:
    """Raise PolicyViolation, naming the first field that the policy forbids.

    `pod` is the rendered pod spec, podTemplate included, and `annotations` are the pod's.
    """
    problem = next(_problems(spec, pod, policy, annotations or {}), None)
    if problem is not None:
        raise PolicyViolation(problem)


def _problems(spec: Spec, pod: Mapping[str, Any], policy: Policy, annotations: Mapping[str, str]) -> Iterator[str]:
    if spec.access.auth == "Open" and not policy.allow_open:
        yield "access.auth: Open is not allowed on this cluster: use APIKey, or have policy.allowOpen set"
    keys, fallback = spec.access.jwt, spec.hold.fallback
    urls = {"access.jwt.jwksURL": keys and keys.jwks_url, "hold.fallback.url": fallback and fallback.url}
    for field, url in urls.items():
        host = urlsplit(url or "").hostname
        if host is not None and not policy.egress.permits_literal(host):
            yield f"{field}: {host} is neither public nor in policy.egress.allow of this cluster"
    uri = parse_uri(spec.model.uri)
    if uri.scheme == "file" and not any(_within(uri.path, folder) for folder in policy.node_paths):
        yield f"model.uri: the node path {uri.path} is not in policy.nodePaths of this cluster"
    for key in ("hostNetwork", "hostPID", "hostIPC"):
        if pod.get(key):
            yield f"{_POD}.{key} must not be set"
    for name, value in annotations.items():
        if name.startswith(_APPARMOR) and value == "unconfined":
            yield f"podTemplate.metadata.annotations: {name} must not be unconfined"
    yield from _security(f"{_POD}.securityContext", pod.get("securityContext"))
    own = {"name": "model", "hostPath": {"path": uri.path}} if uri.scheme == "file" else None
    for volume in _items(pod, "volumes"):
        yield from _volume(volume, own, policy)
    for container in [*_items(pod, "containers"), *_items(pod, "initContainers")]:
        yield from _container(container, policy, read_only="model" if own else "")


def _volume(volume: Mapping[str, Any], own: Mapping[str, Any] | None, policy: Policy) -> Iterator[str]:
    where = f"{_POD}.volumes[{volume.get('name')}]"
    if volume.get("hostPath") is not None and volume != own:
        yield f"{where}: hostPath is not allowed"
    image = volume.get("image")
    if image is not None:
        reference = image.get("reference") if isinstance(image, Mapping) else None
        yield from _image(where, str(reference or ""), policy)


def _container(container: Mapping[str, Any], policy: Policy, read_only: str) -> Iterator[str]:
    where = f"container {container.get('name')}"
    yield from _image(where, str(container.get("image") or ""), policy)
    security = container.get("securityContext") or {}
    yield from _security(f"{where}: securityContext", security)
    if isinstance(security, Mapping):
        for key in ("privileged", "allowPrivilegeEscalation"):
            if security.get(key):
                yield f"{where}: securityContext.{key} must not be true"
        if security.get("procMount") not in (None, "Default"):
            yield f"{where}: securityContext.procMount must be Default"
        capabilities = security.get("capabilities") or {}
        if not isinstance(capabilities, Mapping) or capabilities.get("add"):
            yield f"{where}: securityContext.capabilities.add must be empty"
    if any(port.get("hostPort") for port in _items(container, "ports")):
        yield f"{where}: ports must not have a hostPort"
    for mount in _items(container, "volumeMounts"):
        if read_only and mount.get("name") == read_only and mount.get("readOnly") is not True:
            yield f"{where}: volumeMounts: a folder of the node must be mounted with readOnly: true"


def _security(where: str, context: Any) -> Iterator[str]:
    """Check what pods and containers have in common."""
    if context is None:
        return
    if not isinstance(context, Mapping):
        yield f"{where} must be a map"
        return
    for key in ("seccompProfile", "appArmorProfile", "windowsOptions"):
        part = context.get(key)
        if part is None:
            continue
        if not isinstance(part, Mapping):
            yield f"{where}.{key} must be a map"
        elif part.get("type") == "Unconfined":
            yield f"{where}.{key} must not be Unconfined"
        elif part.get("hostProcess"):
            yield f"{where}.{key}.hostProcess must not be set"
    if context.get("sysctls"):
        yield f"{where}.sysctls must not be set"


def _image(where: str, image: str, policy: Policy) -> Iterator[str]:
    if policy.images is not None and not any(_matches(image, entry) for entry in policy.images):
        yield f"{where}: the image {image or '(none)'} is not in policy.images of this cluster"


def _items(parent: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    """Return the maps of a list; raise PolicyViolation for anything else, in which something could hide."""
    items = parent.get(key)
    if items is None:
        return []
    if not isinstance(items, list) or not all(isinstance(item, Mapping) for item in items):
        raise PolicyViolation(f"podTemplate: {key} must be a list of maps")
    return items


def _within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def _matches(image: str, entry: str) -> bool:
    return image.startswith(entry[:-1]) if entry.endswith("*") else image == entry
