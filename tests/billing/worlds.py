"""Builders of pods and facts, and hypothesis strategies for whole worlds of them."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from zerotide.api.names import FINALIZER_LEDGER, LABEL_ENDPOINT
from zerotide.api.scalars import SECOND, format_time
from zerotide.billing.facts import SOURCE_NODE, Accelerator, Allocation, Fact, Identity, Kind, encode
from zerotide.billing.spans import Span
from zerotide.billing.usage import Attempt

T0 = 1_750_000_000 * SECOND
"""An instant in June 2025."""


def at(seconds: float) -> str:
    """Return T0 plus so many seconds as the API server writes it."""
    return format_time(T0 + round(seconds * SECOND))


def pod(
    name: str = "p1",
    *,
    uid: str = "",
    created: float = 0,
    scheduled: float | None = None,
    started: float | None = None,
    ready: float | None = None,
    deleted: float | None = None,
    finished: float | None = None,
    phase: str = "",
    grace: int = 30,
    requests: dict[str, str] | None = None,
    finalizer: bool = True,
) -> dict[str, Any]:
    """Return a pod object as the API server would show it at that stage of its life."""
    conditions = []
    if scheduled is not None:
        conditions.append({"type": "PodScheduled", "status": "True", "lastTransitionTime": at(scheduled)})
    if ready is not None and finished is None:
        conditions.append({"type": "Ready", "status": "True", "lastTransitionTime": at(ready)})
    state: dict[str, Any] = {"waiting": {"reason": "ContainerCreating"}}
    if finished is not None:
        state = {"terminated": {"startedAt": at(started or 0), "finishedAt": at(finished), "exitCode": 0}}
    elif started is not None:
        state = {"running": {"startedAt": at(started)}}
    metadata: dict[str, Any] = {
        "name": name,
        "namespace": "demo",
        "uid": uid or f"uid-{name}",
        "resourceVersion": "1",
        "labels": {LABEL_ENDPOINT: "smollm2"},
        "creationTimestamp": at(created),
        "finalizers": [FINALIZER_LEDGER] if finalizer else [],
    }
    if deleted is not None:
        metadata |= {"deletionTimestamp": at(deleted + grace), "deletionGracePeriodSeconds": grace}
    spec: dict[str, Any] = {"containers": [{"name": "model", "resources": {"requests": requests or {}}}]}
    if scheduled is not None:
        spec["nodeName"] = "node-1"
    status: dict[str, Any] = {
        "phase": phase or ("Succeeded" if finished is not None else "Running" if started is not None else "Pending"),
        "conditions": conditions,
    }
    if scheduled is not None:
        status["containerStatuses"] = [{"name": "model", "state": state}]
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec, "status": status}


def fact(kind: Kind, seconds: float, key: str = "", uid: str = "u1") -> Fact:
    """Return a fact so many seconds after T0."""
    return Fact("c", uid, kind, key, T0 + round(seconds * SECOND))


def born(uid: str = "u1", created: float = 0, allocation: Allocation | None = None) -> list[Fact]:
    """Return the facts that every pod has from its creation."""
    allocation = allocation or Allocation("nvidia.com/gpu", 1)
    return [
        fact(Kind.POD, created, encode(Identity("demo", "smollm2", uid)), uid),
        fact(Kind.ALLOCATION, created, encode(allocation), uid),
        fact(Kind.CREATED, created, "", uid),
    ]


def life(
    uid: str = "u1", *, allocation: Allocation | None = None, class_name: str = "nvidia-a100-80gb", **times: float
) -> list[Fact]:
    """Return the facts of a pod from `created=…, scheduled=…, started=…` and so on, in seconds after T0."""
    facts = born(uid, times.pop("created", 0), allocation)
    facts += [
        fact(Kind(kind), seconds, "node-1" if kind == "scheduled" else "", uid) for kind, seconds in times.items()
    ]
    if class_name and "scheduled" in times:
        key = encode(Accelerator(SOURCE_NODE, class_name))
        facts.append(fact(Kind.ACCELERATOR, times["scheduled"], key, uid))
    return facts


def attempt(
    start: float,
    end: float | None,
    consumer: str = "demo/a",
    pod_uid: str = "u1",
    *,
    request_id: str = "",
    tokens: tuple[int, int, int] = (0, 0, 0),
    outcome: str = "completed",
    wake_id: str = "",
) -> Attempt:
    """Return an attempt that was forwarded and ended so many seconds after T0; tokens are input, cached, output."""
    return Attempt(
        request_id=request_id or f"{pod_uid}-{consumer}-{start}-{end}",
        number=1,
        namespace="demo",
        endpoint="smollm2",
        consumer=consumer,
        pod_uid=pod_uid,
        cold=bool(wake_id),
        wake_id=wake_id,
        forwarded_us=T0 + round(start * SECOND),
        ended_us=None if end is None else T0 + round(end * SECOND),
        outcome=outcome if end is not None else "",
        input_tokens=tokens[0],
        cached_tokens=tokens[1],
        output_tokens=tokens[2],
    )


instants = st.integers(min_value=T0, max_value=T0 + 200)
"""Few enough instants that stamps coincide often."""

spans = st.builds(Span, instants, instants)
busy = st.lists(spans, max_size=6)

_timed = st.sampled_from([kind for kind in Kind if kind not in (Kind.POD, Kind.ALLOCATION, Kind.ACCELERATOR)])


@st.composite
def pod_facts(draw: st.DrawFn, uid: str = "u1") -> list[Fact]:
    """Return any set of facts that say whose pod it is: stamps in any order, kinds missing or repeated."""
    facts = born(uid)
    loose = draw(st.lists(st.tuples(_timed, instants), max_size=14))
    return facts + [Fact("c", uid, kind, "", t_us) for kind, t_us in loose]
