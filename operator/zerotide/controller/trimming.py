"""What is kept of objects that the operator does not own the kind of: what is read of them, and no more."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from zerotide.reconcile.external import writers

Object = dict[str, Any]

_OF_A_CHILD = ("name", "namespace", "uid", "resourceVersion", "labels", "ownerReferences", "deletionTimestamp")


def trimmed_pod(obj: Object) -> Object:
    """Keep of a pod what is read of it."""
    metadata, status, spec = obj["metadata"], obj.get("status") or {}, obj.get("spec") or {}
    kept = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp", "deletionTimestamp", "labels")
    return {
        "metadata": {
            **{key: metadata[key] for key in kept if key in metadata},
            "annotations": _own(metadata.get("annotations") or {}),
        },
        "spec": {
            "containers": [_resources(container) for container in spec.get("containers") or []],
            "initContainers": [_resources(container) for container in spec.get("initContainers") or []],
            **({"readinessGates": gates} if (gates := spec.get("readinessGates")) else {}),
        },
        "status": {
            key: status[key]
            for key in (
                "phase",
                "podIP",
                "startTime",
                "conditions",
                "containerStatuses",
                "initContainerStatuses",
            )
            if key in status
        },
    }


def trimmed_node(obj: Object) -> Object:
    """Keep of a node what is read of it."""
    metadata = obj["metadata"]
    return {
        "metadata": {key: metadata[key] for key in ("name", "uid", "resourceVersion")},
        "status": {"allocatable": (obj.get("status") or {}).get("allocatable") or {}},
    }


def trimmed_namespace(obj: Object) -> Object:
    """Keep of a namespace what is read of it."""
    metadata = obj["metadata"]
    kept = {key: metadata[key] for key in ("name", "uid", "resourceVersion")}
    return {"metadata": {**kept, "labels": metadata.get("labels") or {}}}


def trimmed_child(obj: Object) -> Object:
    """Keep of a child what is read of it; of its managers, those who write replicas are."""
    metadata, status = obj["metadata"], obj.get("status") or {}
    kept = {field: metadata[field] for field in _OF_A_CHILD if field in metadata}
    if annotations := _own(metadata.get("annotations") or {}):
        kept["annotations"] = annotations
    if entries := writers(metadata.get("managedFields") or ()):
        kept["managedFields"] = entries
    trimmed = {field: value for field, value in obj.items() if field != "status"}
    trimmed["metadata"] = kept
    failures = [each for each in status.get("conditions") or () if each.get("type") == "ReplicaFailure"]
    if failures or status.get("replicas"):
        trimmed["status"] = {"replicas": status.get("replicas", 0), "conditions": failures}
    return trimmed


def alike(one: Object, other: Object) -> bool:
    """Tell whether two trimmed copies of a child differ in nothing but their version."""
    metadata = {**one["metadata"], "resourceVersion": other["metadata"].get("resourceVersion")}
    return {**one, "metadata": metadata} == other


def _own(annotations: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in annotations.items() if name.startswith("zerotide.dev/")}


def _resources(container: Mapping[str, Any]) -> Object:
    return {"name": container.get("name"), "resources": container.get("resources") or {}}
