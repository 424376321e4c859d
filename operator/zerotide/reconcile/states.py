"""Name the state that an endpoint is in after a decision, with its reason and a sentence for people."""

from __future__ import annotations

from typing import NamedTuple

from zerotide.api.conditions import DEFAULT_REASONS, Reason, State, truth
from zerotide.api.endpoint import Status
from zerotide.api.scalars import format_time
from zerotide.reconcile.claims import explain
from zerotide.reconcile.holders import waits_for
from zerotide.reconcile.observed import Observed
from zerotide.reconcile.pods import Stage
from zerotide.reconcile.situation import Situation
from zerotide.reconcile.steer import Steering
from zerotide.reconcile.verifying import Outcome

_PROGRESS: dict[Stage, tuple[State, str]] = {
    Stage.PENDING: (State.WAKING, "a replica was asked for"),
    Stage.UNSCHEDULABLE: (State.WAITING_FOR_CAPACITY, "no node has room for the replica now"),
    Stage.SCHEDULED: (State.PULLING, "the replica's node pulls its image and starts it"),
    Stage.RUNNING: (State.LOADING, "the replica loads the model"),
}


class Verdict(NamedTuple):
    """The state of an endpoint; `rolling_out` while replicas of an older spec still run.

    `name_taken` says which model names are not its own, where that matters: requests that name it otherwise are served.
    """

    state: State
    reason: Reason
    message: str
    rolling_out: bool = False
    name_taken: str = ""
    detail: str = ""
    """What Ready says beside the message, and nothing that clients are answered with."""


def verdict(observed: Observed, steering: Steering, now_us: int) -> Verdict:
    """Return the state that the endpoint is in once the decision has been carried out."""
    found = _verdict(observed, steering, now_us)
    if found.state is State.WAITING_FOR_CAPACITY:
        key, device = observed.endpoint.key, steering.situation.device
        found = found._replace(detail=waits_for(device, key, observed.nodes, observed.holders))
    known = steering.verification
    if found.state is State.ASLEEP and known is not None and known.outcome is Outcome.FAILED:
        found = found._replace(detail=f"its spec was not proven to start: {known.reason}: {known.message}")
    # What is not served at all is told first: names matter to requests that could be served.
    matters = truth(found.state, found.reason).accepting
    return found._replace(name_taken=explain(observed.names_taken)) if matters else found


def _verdict(observed: Observed, steering: Steering, now_us: int) -> Verdict:
    where, decision = steering.situation, steering.decision
    if where.policy.suspended:
        return Verdict(State.SUSPENDED, Reason.SUSPENDED, "suspended by spec.suspend; requests are refused")
    if where.serving and decision.replicas:
        return _awake(observed, where)
    if where.obstacle is not None:
        return Verdict(State.FAILED, where.obstacle.reason, where.obstacle.message)
    if decision.replicas:
        return _starting(steering)
    return _resting(observed, where, now_us)


def _awake(observed: Observed, where: Situation) -> Verdict:
    rolling = any(pod not in where.current for pod in observed.pods if pod.counts) or not where.current
    message = "serving"
    if where.stuck is not None:
        message = f"serving an older spec, because the present one cannot run: {where.stuck.message}"
    elif rolling:
        message = "serving while a new spec is rolled out"
    return Verdict(State.AWAKE, Reason.SERVING, message, rolling)


def _starting(steering: Steering) -> Verdict:
    finding, pods = steering.situation.finding, steering.situation.current
    if finding is not None and finding.hopeless:
        return Verdict(State.FAILED, finding.reason, finding.message)
    state, message = _PROGRESS[max((pod.stage for pod in pods), default=Stage.PENDING)]
    unproven = [pod.proof for pod in pods if pod.proof is not None and pod.proof.due]
    if finding is None and unproven:
        said = next((proof.message for proof in unproven if proof.fresh), "")
        message = f"the replica answers, but is to generate a token first{': ' + said if said else ''}"
    if finding is None:
        return Verdict(state, DEFAULT_REASONS[state], message)
    return Verdict(State.WAITING_FOR_CAPACITY, finding.reason, finding.message)


def _resting(observed: Observed, where: Situation, now_us: int) -> Verdict:
    starts = where.starts
    if starts.retry_us is not None and starts.waiting(now_us):
        # The time comes first: it is also what a client is told to wait for.
        when = format_time(starts.retry_us)
        return Verdict(State.FAILED, Reason.START_BACKOFF, f"no start before {when}: {starts.reason}: {starts.message}")
    if any(pod.running and not pod.ended for pod in observed.pods):
        return Verdict(State.DRAINING, Reason.SERVING, "what still runs ends its requests")
    if _has_served(observed.endpoint.status):
        return Verdict(State.ASLEEP, Reason.SCALED_TO_ZERO, "no replica runs; the next request wakes it")
    return Verdict(State.ASLEEP, Reason.NEVER_SERVED, "no replica has run yet; the first request wakes it")


def _has_served(status: Status) -> bool:
    # Not Ready, which may speak of a model name instead.
    serving = status.condition("Serving")
    return status.last_wake is not None or (
        serving is not None and serving.reason in (Reason.SERVING.value, Reason.SCALED_TO_ZERO.value)
    )
