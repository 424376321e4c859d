"""Plan what remains after steering: the other children, the status, what people are told, when to look again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from zerotide.api.conditions import Reason, State
from zerotide.api.scalars import MILLISECOND, SECOND
from zerotide.api.wording import counted
from zerotide.reconcile import status as statuses
from zerotide.reconcile.child import Child, Kind
from zerotide.reconcile.config import Config, ServiceType
from zerotide.reconcile.drift import difference
from zerotide.reconcile.network_policy import network_policy
from zerotide.reconcile.observed import Observed
from zerotide.reconcile.pdb import disruption_budget, protected_from
from zerotide.reconcile.rendering import Rendering
from zerotide.reconcile.service import service
from zerotide.reconcile.service_account import service_account
from zerotide.reconcile.slices import endpoint_slice
from zerotide.reconcile.states import Verdict, verdict
from zerotide.reconcile.steer import Apply, Create, Steering
from zerotide.reconcile.verifying import Outcome

Object = dict[str, Any]

PREDECESSOR_US = 300 * MILLISECOND
CONFLICT_US = 15 * SECOND
HOLDERS_US = 10 * SECOND
"""How long it may take until it is told that others hold what an endpoint waits for."""


@dataclass(frozen=True, slots=True)
class Delete:
    """Delete an object of ours that is no longer wanted."""

    kind: Kind
    uid: str


@dataclass(frozen=True, slots=True)
class Notice:
    """What is told as an Event about the endpoint; with `once`, a text, it is told once for that text and reason."""

    type: Literal["Normal", "Warning"]
    reason: str
    message: str
    once: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """Writes for everything but the Deployment; the status to write now, if any; when to look again, if ever."""

    writes: tuple[Create | Apply | Delete, ...]
    status: Object | None
    held: Object | None
    """A status that is true from now on and worth a write a little later, if nothing else comes."""
    notices: tuple[Notice, ...]
    """What happened, to be told when the status is written, this one or the one that is held."""
    warnings: tuple[Notice, ...]
    """What is wrong as long as it is, so that a process that ends before it told leaves it to the next."""
    verdict: Verdict
    again_us: int | None


def plan(observed: Observed, rendering: Rendering, steering: Steering, config: Config, now_us: int) -> Plan:
    """Return the plan that follows a steering; planning again once it is carried out writes nothing."""
    outcome = verdict(observed, steering, now_us)
    new = statuses.build(observed, steering, outcome, now_us)
    final = observed.spent is not None and observed.spent.final
    rush_us = observed.rush_us
    when = statuses.due(
        observed.status, new, observed.written_us, observed.held_us, now_us, final=final, rush_us=rush_us
    )
    write = when is not None and when <= now_us
    held = when is not None and not write and statuses.step(observed.status, new, rush_us)
    times = [steering.decision.until_us, steering.situation.due_us, None if write else when]
    if steering.situation.waiting_for_predecessor:
        times.append(now_us + PREDECESSOR_US)
    if outcome.reason is Reason.NAME_CONFLICT:
        times.append(now_us + CONFLICT_US)
    if outcome.state is State.WAITING_FOR_CAPACITY:
        times.append(now_us + HOLDERS_US)
    if observed.writer is not None:
        times.append(observed.writer.until_us)
    found = (steering.finding, steering.situation.roll_out)
    hopeless = any(finding is not None and finding.hopeless for finding in found)
    protected_us = protected_from(steering.situation.current, hopeless)
    if protected_us is not None and observed.own(Kind.POD_DISRUPTION_BUDGET) is None:
        protected_us += rush_us
    protected = protected_us is not None and now_us >= protected_us
    if not protected:
        times.append(protected_us)
    return Plan(
        writes=tuple(_children(observed, config, protected)),
        status=new if write else None,
        held=new if held else None,
        notices=tuple(_notices(observed, steering)) if write or held else (),
        warnings=tuple(_warnings(observed, steering, outcome, new)) if write or when is None else (),
        verdict=outcome,
        again_us=min((time for time in times if time is not None), default=None),
    )


def _children(observed: Observed, config: Config, protected: bool) -> Iterator[Create | Apply | Delete]:
    endpoint = observed.endpoint
    desired: dict[Kind, Child | None] = {
        Kind.SERVICE_ACCOUNT: service_account(endpoint),
        Kind.NETWORK_POLICY: network_policy(endpoint, config.system_namespace),
        Kind.SERVICE: service(endpoint, config),
        Kind.ENDPOINT_SLICE: _slice(observed, config),
        Kind.POD_DISRUPTION_BUDGET: disruption_budget(endpoint, protected),
    }
    for kind, wanted in desired.items():
        live = observed.own(kind)
        if live is not None and "deletionTimestamp" in live["metadata"]:
            continue
        if wanted is None:
            if live is not None:
                yield Delete(kind, str(live["metadata"]["uid"]))
        elif live is None:
            if not observed.taken(kind):
                yield Create(wanted)
        elif kind is Kind.ENDPOINT_SLICE and live.get("addressType") != wanted.object["addressType"]:
            yield Delete(kind, str(live["metadata"]["uid"]))  # it cannot be changed; the next round makes it anew
        elif (drift := difference(live, wanted.object)) is not None:
            wanted.object["metadata"]["uid"] = live["metadata"]["uid"]
            yield Apply(wanted, drift)


def _slice(observed: Observed, config: Config) -> Child | None:
    if config.service_type is ServiceType.EXTERNAL_NAME:
        return None
    # A slice names its Service and not whose that is: beside somebody else's it would take that one's traffic.
    if observed.taken(Kind.SERVICE):
        return None
    live = observed.own(Kind.ENDPOINT_SLICE) or {}
    return endpoint_slice(observed.endpoint, observed.activators, str(live.get("addressType", "IPv4")))


def _notices(observed: Observed, steering: Steering) -> Iterator[Notice]:
    decision, replicas = steering.decision, steering.situation.facts.replicas
    if decision.replicas != replicas:
        message = f"from {replicas} to {counted(decision.replicas, 'replica')}: {decision.message}"
        yield Notice("Normal", "Scaled", message)
    known, told = steering.verification, observed.endpoint.status.verification
    if known is not None and known.outcome is Outcome.SUCCEEDED and (told is None or told.dump() != known.dump()):
        yield Notice("Normal", "Verified", known.message)


def _warnings(observed: Observed, steering: Steering, outcome: Verdict, status: Object) -> Iterator[Notice]:
    # One Event for each time that the endpoint stops taking requests, and for each spec that does not work. Ready may
    # have been False before, for want of a name.
    once = _occasion(status["conditions"][1])
    stuck, starts = steering.situation.stuck, steering.situation.starts
    if outcome.reason is Reason.START_BACKOFF:
        # Who gave up may not be who found out: the reason is told again, for the same occasion.
        yield Notice("Warning", starts.reason, starts.message, once)
    if outcome.state is State.FAILED or outcome.reason is Reason.UNSCHEDULABLE:
        yield Notice("Warning", outcome.reason.value, outcome.message, once)
    elif stuck is not None and outcome.state is State.AWAKE:
        yield Notice("Warning", stuck.reason.value, outcome.message, once)
    if outcome.name_taken:
        occasion = f"{_occasion(status['conditions'][0])} {outcome.name_taken}"
        yield Notice("Warning", Reason.MODEL_NAME_CONFLICT.value, outcome.name_taken, occasion)
    known = steering.verification
    if known is not None and known.outcome is Outcome.FAILED:
        yield Notice("Warning", "NotVerified", f"{known.reason}: {known.message}", known.spec_digest)
    if observed.writer is not None:
        yield Notice("Warning", Reason.EXTERNAL_WRITER.value, observed.writer.message, observed.writer.once)


def _occasion(condition: Object) -> str:
    return f"{condition['observedGeneration']} {condition['status']} {condition['lastTransitionTime']}"
