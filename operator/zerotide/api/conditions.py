"""States, reasons and the truth table: what each state means for the five conditions.

A sleeping endpoint is healthy: Ready is True, or tools that wait for readiness would wait for ever.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Any, NamedTuple

from zerotide.api.scalars import format_time


class State(StrEnum):
    """What an endpoint is doing, for people."""

    ASLEEP = "Asleep"
    WAKING = "Waking"
    WAITING_FOR_CAPACITY = "WaitingForCapacity"
    PULLING = "Pulling"
    LOADING = "Loading"
    AWAKE = "Awake"
    DRAINING = "Draining"
    FAILED = "Failed"
    SUSPENDED = "Suspended"


class Reason(StrEnum):
    """Why a condition is as it is."""

    SCALED_TO_ZERO = "ScaledToZero"
    NEVER_SERVED = "NeverServed"
    WAKING = "Waking"
    SERVING = "Serving"
    UNSCHEDULABLE = "Unschedulable"
    NEVER_SCHEDULABLE = "NeverSchedulable"
    IMAGE_PULL_FAILED = "ImagePullFailed"
    CRASH_LOOPING = "CrashLooping"
    OUT_OF_MEMORY = "OutOfMemory"
    START_DEADLINE_EXCEEDED = "StartDeadlineExceeded"
    START_BACKOFF = "StartBackoff"
    MODEL_DOWNLOAD_FAILED = "ModelDownloadFailed"
    CREDENTIALS_MISSING = "CredentialsMissing"
    VOLUME_FAILED = "VolumeFailed"
    POD_REFUSED = "PodRefused"
    INVALID_POD_TEMPLATE = "InvalidPodTemplate"
    NAME_CONFLICT = "NameConflict"
    MODEL_NAME_CONFLICT = "ModelNameConflict"
    SUSPENDED = "Suspended"
    BUDGET_EXHAUSTED = "BudgetExhausted"
    EXTERNAL_WRITER = "ExternalWriter"
    ROLLING_OUT = "RollingOut"
    """Of Reconciling alone: a new revision is being rolled out."""


class ConditionType(StrEnum):
    """The five conditions, in the order in which they are written."""

    READY = "Ready"
    ACCEPTING = "Accepting"
    SERVING = "Serving"
    RECONCILING = "Reconciling"
    STALLED = "Stalled"


class Verified(NamedTuple):
    """A sixth condition, where start.verify is OnChange: whether the spec was proven to start."""

    status: str
    """True, False, or Unknown as long as nobody knows."""
    reason: str
    message: str


VERIFIED = "Verified"


class Truth(NamedTuple):
    """The statuses of the conditions in one state; Reconciling is True in a roll-out where `rolls` says so."""

    ready: bool
    accepting: bool
    serving: bool
    stalled: bool
    rolls: bool = False


TRUTH: dict[State, Truth] = {
    State.ASLEEP: Truth(ready=True, accepting=True, serving=False, stalled=False),
    State.WAKING: Truth(ready=True, accepting=True, serving=False, stalled=False),
    State.PULLING: Truth(ready=True, accepting=True, serving=False, stalled=False),
    State.LOADING: Truth(ready=True, accepting=True, serving=False, stalled=False),
    State.WAITING_FOR_CAPACITY: Truth(ready=True, accepting=True, serving=False, stalled=False),
    State.AWAKE: Truth(ready=True, accepting=True, serving=True, stalled=False, rolls=True),
    State.DRAINING: Truth(ready=True, accepting=True, serving=False, stalled=False, rolls=True),
    State.FAILED: Truth(ready=False, accepting=False, serving=False, stalled=True),
    State.SUSPENDED: Truth(ready=True, accepting=False, serving=False, stalled=False),
}
OUT_OF_CAPACITY = Truth(ready=False, accepting=False, serving=False, stalled=False)
"""WaitingForCapacity after start.capacityTimeout, that is with the reason Unschedulable."""

_BRIEF = 160
_SAYS: dict[tuple[ConditionType, bool], str] = {
    (ConditionType.ACCEPTING, True): "requests are taken",
    (ConditionType.SERVING, True): "a replica can serve",
    (ConditionType.SERVING, False): "no replica can serve",
    (ConditionType.RECONCILING, True): "a new spec is being rolled out",
    (ConditionType.RECONCILING, False): "nothing is being rolled out",
    (ConditionType.STALLED, False): "nothing needs help",
}
"""What conditions say that have nothing of their own to tell: the whole story is told once, in Ready."""

DEFAULT_REASONS: dict[State, Reason] = {
    State.ASLEEP: Reason.SCALED_TO_ZERO,
    State.WAKING: Reason.WAKING,
    State.PULLING: Reason.WAKING,
    State.LOADING: Reason.WAKING,
    State.WAITING_FOR_CAPACITY: Reason.WAKING,
    State.AWAKE: Reason.SERVING,
    State.DRAINING: Reason.SERVING,
    State.SUSPENDED: Reason.SUSPENDED,
}
"""The reason of each state that has one of its own; Failed always needs to be told."""


def truth(state: State, reason: Reason) -> Truth:
    """Return the row of the truth table."""
    if state is State.WAITING_FOR_CAPACITY and reason is Reason.UNSCHEDULABLE:
        return OUT_OF_CAPACITY
    return TRUTH[state]


def conditions(
    state: State,
    reason: Reason,
    message: str,
    observed_generation: int,
    previous: Iterable[Mapping[str, Any]],
    now_us: int,
    *,
    rolling_out: bool = False,
    name_taken: str = "",
    external_writer: str = "",
    detail: str = "",
    verified: Verified | None = None,
) -> list[dict[str, Any]]:
    """Return the five conditions of a state, and `verified` where that is given, as the API server takes them.

    `previous` are the conditions of the object as read: a condition whose status stays keeps its
    lastTransitionTime, so that an unchanged endpoint is written unchanged. `rolling_out` counts only in
    states where a replica serves. `name_taken` says that an older endpoint keeps a model name of this one: it is
    not what its spec asks for, so not Ready, but it works in every other way. `external_writer` says who else writes
    what only the operator may; Reconciling tells it, since it is put back. `detail` is for people who may read the
    endpoint, and so for Ready alone.
    """
    row = truth(state, reason)
    ready = (False, Reason.MODEL_NAME_CONFLICT) if name_taken else (row.ready, reason)
    reconciling = row.rolls and rolling_out
    calm = Reason.EXTERNAL_WRITER if external_writer else reason
    wanted = {
        ConditionType.READY: ready,
        ConditionType.ACCEPTING: (row.accepting, reason),
        ConditionType.SERVING: (row.serving, reason),
        ConditionType.RECONCILING: (reconciling, Reason.ROLLING_OUT if reconciling else calm),
        ConditionType.STALLED: (row.stalled, reason),
    }
    told = {Reason.MODEL_NAME_CONFLICT: name_taken, Reason.EXTERNAL_WRITER: external_writer}
    before = {condition.get("type"): condition for condition in previous}
    rows = {
        type_.value: Verified(str(holds), why.value, told.get(why) or _message(type_, holds, message, detail))
        for type_, (holds, why) in wanted.items()
    }
    if verified is not None:
        rows[VERIFIED] = verified._replace(message=brief(verified.message))
    result = []
    for name, (status, word, sentence) in rows.items():
        old = before.get(name, {})
        since = old.get("lastTransitionTime") if old.get("status") == status else None
        result.append(
            {
                "type": name,
                "status": status,
                "reason": word,
                "message": sentence,
                "lastTransitionTime": since or format_time(now_us),
                "observedGeneration": observed_generation,
            }
        )
    return result


def brief(text: str) -> str:
    """Return a text, or its beginning and a mark that Ready has the rest."""
    return text if len(text) <= _BRIEF else f"{text[:_BRIEF].rsplit(' ', 1)[0]} … (see Ready)"


def _message(type_: ConditionType, holds: bool, message: str, detail: str) -> str:
    if type_ is ConditionType.READY:
        return f"{message}; {detail}" if detail else message
    # Clients are answered with what Accepting says, and people who wait for a start with what Stalled says.
    return _SAYS.get((type_, holds)) or brief(message)
