"""What an endpoint's situation is: which pods serve, what stands in the way, what was asked for, what failed.

The facts of a decision, and of the status after it, are drawn from objects alone: a restart at any point comes to
the same conclusions.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from zerotide.api.conditions import Reason, State
from zerotide.api.endpoint import Status
from zerotide.api.names import ANNOTATION_SLEEP, ANNOTATION_WAKE
from zerotide.api.scalars import parse_duration, parse_time
from zerotide.reconcile.child import Kind
from zerotide.reconcile.config import Config
from zerotide.reconcile.deployment import refused, replicas_of
from zerotide.reconcile.devices import Device
from zerotide.reconcile.diagnosis import Evidence, Finding, diagnose
from zerotide.reconcile.observed import Observed
from zerotide.reconcile.ownership import Owner
from zerotide.reconcile.pods import Pod, Stage
from zerotide.reconcile.rendering import Rendering
from zerotide.reconcile.verifying import Outcome, Verification, since_us, verification
from zerotide.scaling.decide import Facts, Why, unasked
from zerotide.scaling.policy import Policy
from zerotide.scaling.schedules import Floor, floor_of
from zerotide.scaling.starts import MOST, FailedStarts, believed, failed, give_up_at, given_up


@dataclass(frozen=True, slots=True)
class Situation:
    """Where an endpoint stands; `due_us` is when time alone will change it."""

    policy: Policy
    facts: Facts
    starts: FailedStarts
    finding: Finding | None
    """Why no replica serves, where one should."""
    obstacle: Finding | None
    """Why none may be started: a spec that makes no pod, or a name that is taken."""
    current: tuple[Pod, ...]
    """Replicas of the present spec."""
    serving: tuple[Pod, ...]
    """Replicas that are ready, of whatever spec."""
    waiting_for_predecessor: bool
    due_us: int | None
    roll_out: Finding | None = None
    """Why no replica of the present spec serves beside those of an older one, if it is hopeless."""
    floor: Floor = field(default_factory=lambda: Floor(0))
    """What is kept by the clock."""
    device: Device | None = None
    """The accelerators of the present choice."""
    verification: Verification | None = None
    """Whether the present spec was proven to start, None where nobody asks."""

    @property
    def stuck(self) -> Finding | None:
        """Return why the present spec cannot run."""
        return self.obstacle or self.roll_out


def situation(observed: Observed, rendering: Rendering, config: Config, now_us: int) -> Situation:
    """Draw the situation from what is observed."""
    endpoint, status = observed.endpoint, observed.endpoint.status
    policy, floor = _policy(observed, now_us)
    counted = tuple(pod for pod in observed.pods if pod.counts)
    serving = tuple(pod for pod in counted if pod.stage is Stage.READY)
    current = tuple(pod for pod in counted if pod.spec_digest == rendering.spec_digest)
    replicas = observed.decided
    new_spec = (status.observed_generation or 0) < endpoint.metadata.generation
    proven = any(pod in serving for pod in current)
    unserved_us = observed.unserved_us(now_us)
    evidence = _evidence(observed, policy, config.elastic or rendering.on_demand, new_spec, unserved_us)
    finding = diagnose(current, evidence, now_us) if replicas and not serving else None
    roll_out = diagnose(current, evidence, now_us) if serving and not proven else None
    obstacle, predecessor = _obstacle(observed, rendering)
    wake, sleep = _wishes(observed, replicas)
    fresh = bool(serving) or new_spec or wake is Why.ANNOTATION
    starts = FailedStarts() if fresh else believed(_remembered(status), policy, now_us)
    verifying_us = since_us(endpoint, replicas)
    # Kubernetes may go on trying for whoever waits, but nobody does.
    patient = replace(policy, idle_us=0) if unasked(observed.load, verifying_us) else policy
    starts, give_up, retry_us = _starts(observed, starts, finding, patient, now_us)
    known = verification(endpoint, rendering.whole_digest, current)
    blocked = obstacle.message if obstacle else ""
    if starts.waiting(now_us) and not give_up:
        blocked = "starts back off"
    facts = Facts(
        replicas=replicas,
        since_us=_since(serving, finding, obstacle, current, policy, unserved_us),
        wake=wake,
        sleep=sleep,
        blocked=blocked,
        give_up=give_up,
        lowered_us=_lowered_us(status),
        # A replica of the try before would be taken for one of the next.
        verify=_pending(known) and not (obstacle or counted or observed.withheld),
        verifying_us=verifying_us,
        proven=proven,
        unrecorded=0 if replicas or observed.writer is not None else replicas_of(observed.own(Kind.DEPLOYMENT)),
    )
    withheld_us = observed.withheld.until_us if observed.withheld is not None else None
    # One whose node is lost does not end: no change will tell that the time is over.
    drained_us = min((pod.ends_us or 0 for pod in observed.pods if pod.drains(now_us)), default=None)
    due = _due(current, policy, unserved_us, now_us, retry_us, floor.until_us, withheld_us, drained_us)
    hopeless = roll_out if roll_out is not None and roll_out.hopeless else None
    return Situation(
        policy,
        facts,
        starts,
        finding,
        obstacle,
        current,
        serving,
        predecessor,
        due,
        hopeless,
        floor,
        rendering.device,
        known,
    )


def _policy(observed: Observed, now_us: int) -> tuple[Policy, Floor]:
    """Return the spec's policy with what was learned, what the clock keeps, and what a budget takes away."""
    endpoint = observed.endpoint
    policy = Policy.of(endpoint.spec)
    if observed.learned is not None:
        policy = replace(policy, idle_us=observed.learned.timeout_us)
    floor = floor_of(endpoint.spec.scaling, _lead_us(endpoint.status), now_us)
    if observed.prewarmed is not None:
        floor = observed.prewarmed.beside(floor, now_us)
        if observed.prewarmed.exhausted(now_us):
            # A timeout that was learned meanwhile may be longer than what was set aside.
            policy = replace(policy, idle_us=0)
    policy = policy.at_least(floor)
    return (policy.withholding(observed.withheld.reason) if observed.withheld is not None else policy), floor


def _pending(known: Verification | None) -> bool:
    return known is not None and known.outcome is Outcome.PENDING


def _evidence(observed: Observed, policy: Policy, elastic: bool, new_spec: bool, unserved_us: int) -> Evidence:
    live = observed.own(Kind.DEPLOYMENT)
    return Evidence(
        nodes=observed.nodes,
        pulls=observed.pulls,
        mounts=observed.mounts,
        refused="" if new_spec else refused(live),
        elastic=elastic,
        deadline_us=policy.deadline_us,
        capacity_us=policy.capacity_us,
        unserved_us=unserved_us,
    )


def _obstacle(observed: Observed, rendering: Rendering) -> tuple[Finding | None, bool]:
    meta = observed.endpoint.metadata
    taken, predecessor = set(observed.conflicts), False
    for kind in observed.children:
        whose = observed.owner_of(kind)
        predecessor = predecessor or whose is Owner.PREDECESSOR
        if whose is Owner.FOREIGN:
            taken.add(kind)
        else:
            taken.discard(kind)
    if taken:
        kinds = " and ".join(f"the {kind.value} {meta.name}" for kind in Kind if kind in taken)
        message = f"{kinds} of this namespace belongs to somebody else and is left alone: rename the endpoint, or it"
        return Finding(Reason.NAME_CONFLICT, message), predecessor
    if rendering.error is not None:
        return Finding(rendering.error.reason, str(rendering.error)), predecessor
    return None, predecessor


def _wishes(observed: Observed, replicas: int) -> tuple[Why | None, bool]:
    endpoint, status = observed.endpoint, observed.endpoint.status
    annotations, handled = endpoint.metadata.annotations, status.handled_annotations
    asked_wake, asked_sleep = annotations.get(ANNOTATION_WAKE), annotations.get(ANNOTATION_SLEEP)
    new_wake = asked_wake and asked_wake != (handled.wake_requested_at if handled else None)
    new_sleep = asked_sleep and asked_sleep != (handled.sleep_requested_at if handled else None)
    if replicas:
        return None, bool(new_sleep)
    if new_wake:
        return Why.ANNOTATION, False
    request = status.wake_request
    return (Why.REQUEST if request and request.id != status.handled_wake_request else None), False


def _remembered(status: Status) -> FailedStarts:
    known = status.failed_starts
    if known is None:
        return FailedStarts()
    retry = parse_time(known.retry_time) if known.retry_time else None
    # An older operator wrote no times, and forgot all of them with the first.
    times = known.times or (known.since,) * min(known.count, MOST)
    return FailedStarts(tuple(map(parse_time, times)), known.reason, known.message, retry)


def _starts(
    observed: Observed, starts: FailedStarts, finding: Finding | None, policy: Policy, now_us: int
) -> tuple[FailedStarts, bool, int | None]:
    """Return the failed starts, whether the present one is given up now, and when any of this changes."""
    if finding is None or not finding.hopeless:
        return starts, False, starts.retry_us
    status = observed.endpoint.status
    stalled = status.condition("Stalled")
    known = status.state == State.FAILED and starts.count > 0 and starts.retry_us is None
    since = parse_time(stalled.last_transition_time) if known and stalled else now_us
    if known:
        starts = replace(starts, reason=finding.reason.value, message=finding.message)
    else:
        starts = failed(starts, finding.reason.value, finding.message, policy, now_us)
    end = give_up_at(starts, since, finding.at_once, observed.load, policy)
    if known and end is not None and now_us >= end:
        starts = given_up(starts, policy, now_us)
        return starts, True, starts.retry_us
    return starts, False, end


def _since(
    serving: tuple[Pod, ...],
    finding: Finding | None,
    obstacle: Finding | None,
    current: tuple[Pod, ...],
    policy: Policy,
    unserved_us: int,
) -> int | None:
    """Return since when the idle clock may run, None while a start is in progress."""
    if serving:
        return min(pod.ready_us or 0 for pod in serving)
    if finding is not None and finding.reason is Reason.UNSCHEDULABLE:
        return max(min(pod.created_us for pod in current), unserved_us) + policy.capacity_us
    return 0 if obstacle else None


def _lowered_us(status: Status) -> int | None:
    """Return when replicas were last taken away, None where nobody remembers."""
    return next((parse_time(each.time) for each in status.decisions if each.to_replicas < each.from_replicas), None)


def _lead_us(status: Status) -> int:
    """Return how long nine of ten cold starts took, nothing before the first."""
    known = status.cold_starts.p90 if status.cold_starts else None
    return parse_duration(known) if known else 0


def _due(current: tuple[Pod, ...], policy: Policy, unserved_us: int, now_us: int, *others_us: int | None) -> int | None:
    times = [time for time in others_us if time is not None]
    for pod in current:
        if pod.stage is Stage.UNSCHEDULABLE:
            times.append(max(pod.created_us, unserved_us) + policy.capacity_us)
        elif pod.stage is not Stage.READY and pod.scheduled_us is not None:
            times.append(pod.scheduled_us + policy.deadline_us)
    return min((time for time in times if time > now_us), default=None)
