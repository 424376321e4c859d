"""Endpoints and pods for tests of the pure half of the operator."""

from __future__ import annotations

from typing import Any

from zerotide.api.endpoint import InferenceEndpoint
from zerotide.api.scalars import SECOND, format_time
from zerotide.reconcile import pod as pods
from zerotide.reconcile.config import Config
from zerotide.reconcile.devices import Classes, devices
from zerotide.reconcile.pods import Pod, Stage

Object = dict[str, Any]

NOW = 1_790_000_000 * SECOND
CONFIG = Config(
    images={"zerotide": "runtime:1", "vllm": "vllm:1", "sglang": "sglang:1", "llamacpp": "llama:1", "tgi": "tgi:1"}
)


def raw(spec: Object | None = None, *, status: Object | None = None, **metadata: Any) -> Object:
    """Return an endpoint as the API server sends it."""
    body = {"model": {"uri": "image:///m"}, **(spec or {})}
    return {
        "apiVersion": "zerotide.dev/v1alpha1",
        "kind": "InferenceEndpoint",
        "metadata": {
            "name": "a",
            "namespace": "demo",
            "uid": "u1",
            "generation": 1,
            "resourceVersion": "1",
            **metadata,
        },
        "spec": body,
        **({"status": status} if status else {}),
    }


def endpoint(spec: Object | None = None, *, status: Object | None = None, **metadata: Any) -> InferenceEndpoint:
    """Return a parsed endpoint."""
    return InferenceEndpoint.parse(raw(spec, status=status, **metadata))


def template(endpoint: InferenceEndpoint, config: Config = CONFIG, classes: Classes | None = None) -> Object:
    """Return the pod template of an endpoint's first choice of accelerators."""
    return pods.template(endpoint, config, devices(endpoint, classes or {})[0])


def pod(stage: Stage = Stage.READY, **fields: Any) -> Pod:
    """Return a replica that was made a minute ago."""
    made = NOW - 60 * SECOND
    known: Object = {
        "name": "a-1",
        "uid": "p1",
        "spec_digest": "d",
        "created_us": made,
        "stage": stage,
        "running": stage >= Stage.RUNNING,
        "leaving": False,
        "ended": False,
        "scheduled_us": made if stage >= Stage.SCHEDULED else None,
        "started_us": made if stage >= Stage.SCHEDULED else None,
        "ready_us": NOW - 30 * SECOND if stage is Stage.READY else made,
        "spec": {"containers": []},
    }
    return Pod(**{**known, **fields})


def pod_object(
    name: str = "a-1",
    *,
    digest: str = "d",
    scheduled: bool = True,
    ready: bool = False,
    state: Object | None = None,
    last: Object | None = None,
    restarts: int = 0,
    unschedulable: str = "",
    **metadata: Any,
) -> Object:
    """Return a pod as the API server sends it."""
    made = format_time(NOW - 60 * SECOND)
    conditions: list[Object] = [
        {"type": "PodScheduled", "status": "True" if scheduled else "False", "lastTransitionTime": made},
        {"type": "Ready", "status": "True" if ready else "False", "lastTransitionTime": made},
    ]
    if unschedulable:
        conditions[0] |= {"reason": "Unschedulable", "message": unschedulable}
    status: Object = {"phase": "Pending", "conditions": conditions}
    if scheduled:
        container = {"name": "model", "state": state or {}, "lastState": last or {}, "restartCount": restarts}
        status |= {"startTime": made, "containerStatuses": [container]}
    return {
        "metadata": {
            "name": name,
            "namespace": "demo",
            "uid": f"uid-{name}",
            "creationTimestamp": made,
            "annotations": {"zerotide.dev/spec-digest": digest},
            "labels": {"zerotide.dev/endpoint": "a"},
            **metadata,
        },
        "spec": {"containers": []},
        "status": status,
    }
