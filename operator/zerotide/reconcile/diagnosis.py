"""Explain why an endpoint that should run does not: pods, nodes and events in, one finding out.

A finding is hopeless when waiting cannot help: clients that are held get the reason. Kubernetes goes on trying all
the same, and a pod that comes up after all ends the finding. An image that cannot be pulled and a crash count from
the second back-off on, because the first try fails for many passing reasons; a pod that no node has room for now is
never hopeless.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from zerotide.api.conditions import Reason
from zerotide.api.scalars import SECOND, format_duration
from zerotide.reconcile.capacity import obstacle
from zerotide.reconcile.pods import Exit, Pod, Stage

_TOLD = {
    reason.value: reason
    for reason in (
        Reason.MODEL_DOWNLOAD_FAILED,
        Reason.CREDENTIALS_MISSING,
        Reason.OUT_OF_MEMORY,
        Reason.VOLUME_FAILED,
    )
} | dict.fromkeys(("ModelNotFound", "InvalidModel", "UnsupportedModel"), Reason.MODEL_DOWNLOAD_FAILED)
"""Reasons that a runtime may give in its termination message, a JSON object {"reason", "message"}.

A model that is not there, or that cannot be read, is one case to the caller: the model could not be had.
"""
_MESSAGE = 800
_CREATE_GRACE_US = 10 * SECOND


@dataclass(frozen=True, slots=True)
class Finding:
    """Why a pod does not serve; `hopeless` when waiting cannot help, `at_once` when it should not run on either."""

    reason: Reason
    message: str
    hopeless: bool = True
    at_once: bool = False


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a diagnosis is made from beside the pods.

    `pulls` counts the back-offs of image pulls by pod uid; `mounts` holds, by pod uid, the last message of a volume
    that failed to mount at least twice. `refused` is why the API server refuses the pods. `unserved_us` is since when
    no replica serves, 0 where that is of no interest.
    """

    nodes: tuple[Mapping[str, Any], ...] = ()
    pulls: Mapping[str, int] | None = None
    mounts: Mapping[str, str] | None = None
    refused: str = ""
    elastic: bool = False
    deadline_us: int = 900 * SECOND
    capacity_us: int = 300 * SECOND
    unserved_us: int = 0


def diagnose(pods: Iterable[Pod], evidence: Evidence, now_us: int) -> Finding | None:
    """Return why none of the pods serves, or None while that is nothing but a start in progress.

    `pods` are the replicas of the current spec. The endpoint is as well as its best pod: one that is not hopeless
    makes it wait.
    """
    findings = [_of_pod(pod, evidence, now_us) for pod in pods]
    if not findings and evidence.refused:
        return Finding(Reason.POD_REFUSED, _clip(f"the cluster refuses the pod: {evidence.refused}"))
    if not findings or None in findings:
        return None
    found = [finding for finding in findings if finding is not None]
    return next((finding for finding in found if not finding.hopeless), found[0])


def _of_pod(pod: Pod, evidence: Evidence, now_us: int) -> Finding | None:
    if pod.stage is Stage.READY:
        return None
    if pod.stage in (Stage.PENDING, Stage.UNSCHEDULABLE):
        return _unscheduled(pod, evidence, now_us)
    for find in (_told, _memory, _image, _configuration, _crash, _volume):
        finding = find(pod, evidence, now_us)
        if finding is not None:
            return finding
    return _late(pod, evidence, now_us)


def _unscheduled(pod: Pod, evidence: Evidence, now_us: int) -> Finding | None:
    if pod.stage is Stage.PENDING:
        return None
    if "persistentvolumeclaim" in pod.unscheduled and "not found" in pod.unscheduled:
        return Finding(Reason.VOLUME_FAILED, _clip(f"{pod.unscheduled}: create it, or change what names it"))
    why = "" if evidence.elastic else obstacle(pod.spec or {}, evidence.nodes)
    if why:
        return Finding(
            Reason.NEVER_SCHEDULABLE, _clip(f"no node could ever hold the pod: {why}. Request less, or add such a node")
        )
    if now_us - max(pod.created_us, evidence.unserved_us) >= evidence.capacity_us:
        return Finding(Reason.UNSCHEDULABLE, _clip(f"no node has room: {pod.unscheduled}"), hopeless=False)
    return Finding(Reason.WAKING, _clip(f"waiting for room on a node: {pod.unscheduled}"), hopeless=False)


def _told(pod: Pod, evidence: Evidence, now_us: int) -> Finding | None:
    if pod.exit is None or pod.served:
        return None
    try:
        told = json.loads(pod.exit.message)
    except ValueError:
        return None
    reason = _TOLD.get(str(told.get("reason"))) if isinstance(told, dict) else None
    return Finding(reason, _clip(str(told.get("message") or reason.value))) if reason else None


def _memory(pod: Pod, evidence: Evidence, now_us: int) -> Finding | None:
    killed = pod.exit is not None and pod.exit.reason == "OOMKilled"
    if not killed or (pod.served and pod.restarts < 2):
        return None
    return Finding(
        Reason.OUT_OF_MEMORY,
        "the runtime was killed because it used more memory than its limit: raise resources.limits.memory",
    )


def _image(pod: Pod, evidence: Evidence, now_us: int) -> Finding | None:
    final = pod.waiting in ("InvalidImageName", "ErrImageNeverPull", "ImageInspectError")
    again = pod.waiting in ("ImagePullBackOff", "ErrImagePull", "RegistryUnavailable")
    if final or (again and (evidence.pulls or {}).get(pod.uid, 0) >= 2):
        detail = pod.waiting_message or pod.waiting
        return Finding(
            Reason.IMAGE_PULL_FAILED,
            _clip(f"the image cannot be pulled: {detail}. Check runtime.image and the registry's credentials"),
        )
    return None


def _configuration(pod: Pod, evidence: Evidence, now_us: int) -> Finding | None:
    message = pod.waiting_message
    if pod.waiting == "CreateContainerConfigError":
        secret = "secret" in message.lower()
        if secret:
            return Finding(
                Reason.CREDENTIALS_MISSING, _clip(f"{message}: create the Secret in the endpoint's namespace")
            )
        return Finding(Reason.INVALID_POD_TEMPLATE, _clip(f"the container cannot be configured: {message}"))
    old = pod.scheduled_us is not None and now_us - pod.scheduled_us >= _CREATE_GRACE_US
    if pod.waiting in ("CreateContainerError", "RunContainerError") and (old or pod.restarts >= 2):
        return Finding(Reason.CRASH_LOOPING, _clip(f"the container cannot be started: {message}"))
    return None


def _crash(pod: Pod, evidence: Evidence, now_us: int) -> Finding | None:
    again = pod.waiting == "CrashLoopBackOff" and pod.restarts >= 2
    # Between two back-offs the container runs for a moment; that is no reason to hope again.
    still = pod.restarts >= 3 and pod.exit is not None and not pod.served
    if not again and not still:
        return None
    ended = pod.exit or Exit()
    last = ended.message.splitlines()[-1] if ended.message else pod.waiting_message
    return Finding(
        Reason.CRASH_LOOPING,
        _clip(f"the runtime ended {pod.restarts + 1} times, last with exit code {ended.code} ({ended.reason}): {last}"),
    )


def _volume(pod: Pod, evidence: Evidence, now_us: int) -> Finding | None:
    message = (evidence.mounts or {}).get(pod.uid)
    if message is None or pod.stage is not Stage.SCHEDULED:
        return None
    return Finding(Reason.VOLUME_FAILED, _clip(f"a volume cannot be mounted: {message}"))


def _late(pod: Pod, evidence: Evidence, now_us: int) -> Finding | None:
    if pod.served or pod.scheduled_us is None or now_us < pod.scheduled_us + evidence.deadline_us:
        return None
    doing = "was loading" if pod.stage is Stage.RUNNING else "was not started"
    told = ""
    if pod.proof is not None and pod.proof.due:
        doing, told = "had generated no token", f" ({pod.proof.message})" if pod.proof.fresh else ""
    took = format_duration(evidence.deadline_us)
    message = f"the model {doing} {took} after its pod got a node{told}: raise start.deadline, or see the pod's log"
    return Finding(Reason.START_DEADLINE_EXCEEDED, _clip(message), at_once=True)


def _clip(text: str) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= _MESSAGE else flat[: _MESSAGE - 1] + "…"
