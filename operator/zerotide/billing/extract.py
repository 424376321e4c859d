"""Read facts out of a pod object.

Everything that the API server stamps becomes a fact with that stamp, so reading the same object twice, or by two
observers, or after a crash, gives the same facts. Only `backoff` and `gone` carry the meter's own clock, for which
Kubernetes keeps no stamp; they are `seen_facts` and `gone_fact`, apart from the rest.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from zerotide.api.accelerator_class import PartOf
from zerotide.api.names import ANNOTATION_ACCELERATOR_PART, CONTAINER_MODEL, FINALIZER_LEDGER, LABEL_ENDPOINT
from zerotide.billing.allocation import accelerator_of, allocation_of
from zerotide.billing.facts import Fact, Identity, Kind, encode, run_key
from zerotide.billing.stamps import seconds, stamp

Json = Mapping[str, Any]

BACKOFF_REASONS = frozenset(
    {
        "CrashLoopBackOff",
        "CreateContainerConfigError",
        "CreateContainerError",
        "ErrImageNeverPull",
        "ErrImagePull",
        "ImageInspectError",
        "ImagePullBackOff",
        "InvalidImageName",
        "RunContainerError",
    }
)


def pod_facts(cluster: str, pod: Json, *, class_name: str = "", node: Json | None = None) -> list[Fact]:
    """Return every fact that a pod object proves by its own stamps.

    `class_name` is the accelerator class that the endpoint names, `node` the node that the pod is bound to.
    """
    uid = pod["metadata"]["uid"]
    return [Fact(cluster, uid, kind, key, t_us) for kind, key, t_us in _stamps(pod, class_name, node)]


def seen_facts(cluster: str, pod: Json, now_us: int) -> list[Fact]:
    """Return what the meter sees at this moment and Kubernetes does not stamp: a container that cannot be started."""
    status = model_status(pod)
    reason = (((status or {}).get("state") or {}).get("waiting") or {}).get("reason", "")
    if reason in BACKOFF_REASONS:
        return [Fact(cluster, pod["metadata"]["uid"], Kind.BACKOFF, reason, now_us)]
    return []


def gone_fact(cluster: str, pod_uid: str, now_us: int) -> Fact:
    """Return the end of a pod that the meter missed: the weakest witness, used only where there is no better."""
    return Fact(cluster, pod_uid, Kind.GONE, "", now_us)


def is_over(pod: Json) -> bool:
    """Tell whether a pod holds nothing any more: terminal, or being deleted with every container terminated or
    none ever scheduled."""
    status = pod.get("status") or {}
    if status.get("phase") in ("Succeeded", "Failed"):
        return True
    if not pod["metadata"].get("deletionTimestamp"):
        return False
    if not (pod.get("spec") or {}).get("nodeName"):
        return True
    statuses = status.get("containerStatuses") or ()
    expected = len((pod.get("spec") or {}).get("containers") or ())
    return len(statuses) >= expected > 0 and all(
        (container.get("state") or {}).get("terminated") for container in _all_statuses(pod)
    )


def releasable(pod: Json) -> bool:
    """Tell whether the meter's finalizer stands and may go, once the pod's facts are recorded."""
    return FINALIZER_LEDGER in (pod["metadata"].get("finalizers") or ()) and is_over(pod)


def model_status(pod: Json) -> Json | None:
    """Return the status of the container that serves the model: the one named so, else the first."""
    statuses = (pod.get("status") or {}).get("containerStatuses") or ()
    named = (container for container in statuses if container.get("name") == CONTAINER_MODEL)
    return next(named, statuses[0] if statuses else None)


def _stamps(pod: Json, class_name: str, node: Json | None) -> Iterator[tuple[str, str, int]]:
    metadata, spec = pod["metadata"], pod.get("spec") or {}
    created = stamp(metadata.get("creationTimestamp")) or 0
    endpoint = (metadata.get("labels") or {}).get(LABEL_ENDPOINT, "")
    allocation = allocation_of(pod)
    yield Kind.POD, encode(Identity(metadata.get("namespace", ""), endpoint, metadata["name"])), created
    yield Kind.ALLOCATION, encode(allocation), created
    yield Kind.CREATED, "", created
    for condition in (pod.get("status") or {}).get("conditions") or ():
        moment = stamp(condition.get("lastTransitionTime"))
        if condition.get("status") != "True" or moment is None:
            continue
        if condition.get("type") == "PodScheduled":
            yield Kind.SCHEDULED, spec.get("nodeName", ""), moment
            part = PartOf.read((metadata.get("annotations") or {}).get(ANNOTATION_ACCELERATOR_PART, ""))
            accelerator = accelerator_of(allocation, class_name=class_name, part=part, node=node)
            if accelerator is not None:
                yield Kind.ACCELERATOR, encode(accelerator), moment
        elif condition.get("type") == "Ready":
            yield Kind.READY, "", moment
    yield from _runs(pod)
    deletion = stamp(metadata.get("deletionTimestamp"))
    if deletion is not None:
        # deletionTimestamp lies at the end of the grace period.
        yield Kind.DELETE, "", deletion - seconds(metadata.get("deletionGracePeriodSeconds"))
    if is_over(pod):
        yield from _end(pod)


def _runs(pod: Json) -> Iterator[tuple[str, str, int]]:
    container = model_status(pod) or {}
    name, number, now = container.get("name", ""), container.get("restartCount") or 0, container.get("state") or {}
    # One that waits is in no run: the last one is that which was restarted so many times.
    before = number - 1 if "running" in now or "terminated" in now else number
    for state, run in ((container.get("lastState") or {}, max(before, 0)), (now, number)):
        for kind, part, field in (
            (Kind.STARTED, "running", "startedAt"),
            (Kind.STARTED, "terminated", "startedAt"),
            (Kind.EXITED, "terminated", "finishedAt"),
        ):
            moment = stamp((state.get(part) or {}).get(field))
            if moment is not None:
                yield kind, run_key(name, run), moment


def _end(pod: Json) -> Iterator[tuple[str, str, int]]:
    ends = [
        stamp(((container.get("state") or {}).get("terminated") or {}).get("finishedAt"))
        for container in _all_statuses(pod)
    ]
    known = [moment for moment in ends if moment is not None]
    expected = len((pod.get("spec") or {}).get("containers") or ())
    if known and len(known) == len(ends) and len(ends) >= expected:
        yield Kind.FINISHED, "", max([*known, *_held_until(pod)])
        return
    known += _turns(pod)
    if known:
        yield Kind.TERMINAL, "", max(known)


def _held_until(pod: Json) -> Iterator[int]:
    """Yield when deletion was asked for, where only that could end the pod.

    The kubelet would have restarted a container that had exited by itself before, so the devices were held until then.
    """
    deletion, status = stamp(pod["metadata"].get("deletionTimestamp")), pod.get("status") or {}
    grace = seconds(pod["metadata"].get("deletionGracePeriodSeconds"))
    restarts = (pod.get("spec") or {}).get("restartPolicy", "Always") == "Always"
    # With the kubelet's last word the grace is 0, and the stamp is moved to when that came, after the exit.
    if deletion is not None and grace and restarts and not status.get("reason"):
        yield deletion - grace


def _turns(pod: Json) -> Iterator[int]:
    """Yield the API server's own stamps of a pod's last moments: turned unready, evicted, deleted.

    Conditions of a pod that never was ready keep the stamp of its beginning, which says nothing about its end.
    """
    conditions = (pod.get("status") or {}).get("conditions") or ()
    begun = [stamp(each.get("lastTransitionTime")) for each in conditions if each.get("type") == "PodScheduled"]
    for condition in conditions:
        moment = stamp(condition.get("lastTransitionTime"))
        over = (condition.get("type"), condition.get("status")) in (
            ("Ready", "False"),
            ("ContainersReady", "False"),
            ("DisruptionTarget", "True"),
        )
        if over and moment is not None and moment > max((each for each in begun if each), default=0):
            yield moment
    deletion = stamp(pod["metadata"].get("deletionTimestamp"))
    if deletion is not None and begun:
        yield deletion - seconds(pod["metadata"].get("deletionGracePeriodSeconds"))


def _all_statuses(pod: Json) -> list[Json]:
    status = pod.get("status") or {}
    return [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]
