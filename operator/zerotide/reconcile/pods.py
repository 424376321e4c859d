"""Read pods as far as starts and failures show in them; everything else of a pod is ignored."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from zerotide.api.names import CONDITION_TOKEN, CONTAINER_MODEL, LABEL_ACCELERATOR_CLASS
from zerotide.api.scalars import parse_time
from zerotide.reconcile.rendering import ANNOTATION_SPEC_DIGEST

_ID = 12
"""Characters of a container's id that people tell containers apart by."""


class Stage(IntEnum):
    """How far a pod has come; the order is the order of a start."""

    PENDING = 0
    UNSCHEDULABLE = 1
    SCHEDULED = 2
    RUNNING = 3
    READY = 4


@dataclass(frozen=True, slots=True)
class Exit:
    """How a container ended last."""

    reason: str = ""
    code: int = 0
    message: str = ""
    started_us: int | None = None


@dataclass(frozen=True, slots=True)
class Proof:
    """Whether the engine has generated a token: what a pod that waits for that says of it."""

    holds: bool = False
    message: str = ""
    container: str = ""
    """The beginning of the id of the model's container as it is now; the message names the one that was asked."""
    due: bool = False
    """Whether the kubelet's own probes pass, so that the engine can be asked."""

    @property
    def fresh(self) -> bool:
        """Tell whether it is about the container that runs now."""
        return bool(self.container) and self.container in self.message


@dataclass(frozen=True, slots=True)
class Pod:
    """A replica, or one that leaves; times are the API server's, in whole seconds."""

    name: str
    uid: str
    spec_digest: str
    created_us: int
    stage: Stage
    running: bool
    """Whether the model's container runs, be it ready or not."""
    leaving: bool
    ended: bool
    scheduled_us: int | None = None
    ready_us: int | None = None
    """Since when it is ready, or else since when it is not."""
    started_us: int | None = None
    """When the kubelet took it in."""
    unscheduled: str = ""
    """Why the scheduler finds no node, verbatim."""
    waiting: str = ""
    """Why the model's container waits, as the kubelet says it."""
    waiting_message: str = ""
    restarts: int = 0
    exit: Exit | None = None
    spec: Mapping[str, Any] | None = None
    address: str = ""
    proof: Proof | None = None
    """None where it need not generate a token to be ready."""
    ends_us: int | None = None
    """When it is ended at the latest, where it leaves."""
    class_name: str = ""
    """The class of its accelerators, empty where it has none or the class no name."""

    @property
    def counts(self) -> bool:
        """Tell whether it is a replica: neither leaving nor at its end."""
        return not self.leaving and not self.ended

    def drains(self, now_us: int) -> bool:
        """Tell whether it leaves and holds its room yet; whose time is long over is on a node that is lost."""
        return self.leaving and not self.ended and now_us < (self.ends_us or 0)

    @property
    def served(self) -> bool:
        """Tell whether it has been ready before: its readiness changed after it was taken in."""
        if self.stage is Stage.READY:
            return True
        known = self.ready_us is not None and self.started_us is not None
        return known and (self.ready_us or 0) > (self.started_us or 0) + 1_000_000


def read(obj: Mapping[str, Any]) -> Pod:
    """Read a pod of the API server."""
    metadata, status = obj["metadata"], obj.get("status") or {}
    conditions = {condition["type"]: condition for condition in status.get("conditions") or []}
    container = _named(status.get("containerStatuses"), CONTAINER_MODEL)
    state = container.get("state") or {}
    waiting = state.get("waiting") or _failed_init(status) or {}
    ready, scheduled = conditions.get("Ready", {}), conditions.get("PodScheduled", {})
    return Pod(
        name=metadata["name"],
        uid=metadata["uid"],
        spec_digest=(metadata.get("annotations") or {}).get(ANNOTATION_SPEC_DIGEST, ""),
        created_us=_time(metadata.get("creationTimestamp")) or 0,
        stage=_stage(ready, scheduled, state),
        running="running" in state,
        leaving="deletionTimestamp" in metadata,
        ends_us=_time(metadata.get("deletionTimestamp")),
        ended=status.get("phase") in ("Succeeded", "Failed"),
        scheduled_us=_time(scheduled.get("lastTransitionTime")) if scheduled.get("status") == "True" else None,
        ready_us=_time(ready.get("lastTransitionTime")),
        started_us=_time(status.get("startTime")),
        unscheduled=scheduled.get("message", "") if scheduled.get("reason") == "Unschedulable" else "",
        waiting=waiting.get("reason", ""),
        waiting_message=waiting.get("message", ""),
        restarts=int(container.get("restartCount") or 0),
        exit=_exit(container),
        spec=obj.get("spec"),
        address=str(status.get("podIP") or ""),
        proof=_proof(obj, conditions, container),
        class_name=(metadata.get("labels") or {}).get(LABEL_ACCELERATOR_CLASS, ""),
    )


def _proof(obj: Mapping[str, Any], conditions: Mapping[str, Any], container: Mapping[str, Any]) -> Proof | None:
    gates = (obj.get("spec") or {}).get("readinessGates") or []
    if not any(gate.get("conditionType") == CONDITION_TOKEN for gate in gates):
        return None
    told = conditions.get(CONDITION_TOKEN, {})
    return Proof(
        holds=told.get("status") == "True",
        message=str(told.get("message") or ""),
        container=str(container.get("containerID") or "").rpartition("/")[2][:_ID],
        due=conditions.get("ContainersReady", {}).get("status") == "True",
    )


def _stage(ready: Mapping[str, Any], scheduled: Mapping[str, Any], state: Mapping[str, Any]) -> Stage:
    if ready.get("status") == "True":
        return Stage.READY
    if "running" in state or "terminated" in state:
        return Stage.RUNNING
    if scheduled.get("status") == "True":
        return Stage.SCHEDULED
    return Stage.UNSCHEDULABLE if scheduled.get("reason") == "Unschedulable" else Stage.PENDING


def _exit(container: Mapping[str, Any]) -> Exit | None:
    for state in (container.get("state") or {}, container.get("lastState") or {}):
        ended = state.get("terminated")
        if ended:
            return Exit(
                ended.get("reason", ""),
                int(ended.get("exitCode") or 0),
                str(ended.get("message") or "").strip(),
                _time(ended.get("startedAt")),
            )
    return None


def _failed_init(status: Mapping[str, Any]) -> Mapping[str, Any] | None:
    # A podTemplate may add init containers; the pod waits for them, and the model's container says only that.
    for container in status.get("initContainerStatuses") or []:
        waiting = (container.get("state") or {}).get("waiting")
        if waiting and waiting.get("reason") != "PodInitializing":
            return dict(waiting)
    return None


def _named(containers: Any, name: str) -> Mapping[str, Any]:
    for container in containers or []:
        if container.get("name") == name:
            return dict(container)
    return {}


def _time(text: str | None) -> int | None:
    return parse_time(text) if text else None
