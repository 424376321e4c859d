"""Decide the number of replicas. Rules in order of strength: suspension, give-up, pins, bounds, demand, idleness."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from zerotide.api.scalars import MILLISECOND, SECOND, format_duration
from zerotide.api.wording import counted
from zerotide.scaling.arrivals import SPAN_US
from zerotide.scaling.demand import Load
from zerotide.scaling.idle import rest
from zerotide.scaling.policy import Policy
from zerotide.scaling.window import Window

_SOON_US = 20 * MILLISECOND
_LINE_US = 1 * SECOND
"""After how long a line of requests is looked at again: who waits has waited longer by then."""


class Why(StrEnum):
    """Why replicas are what they are; also the label of the operator's metrics."""

    SUSPENDED = "Suspended"
    START_FAILED = "StartFailed"
    BLOCKED = "Blocked"
    PINNED = "Pinned"
    MIN_REPLICAS = "MinReplicas"
    SCHEDULE = "Schedule"
    OVERRIDE = "Override"
    PREWARM = "Prewarm"
    REQUEST = "Request"
    ANNOTATION = "Annotation"
    DEMAND = "Demand"
    VERIFY = "Verify"
    VERIFIED = "Verified"
    SLEEP_REQUESTED = "SleepRequested"
    IDLE = "Idle"
    BUDGET = "Budget"
    UNCHANGED = "Unchanged"


@dataclass(frozen=True, slots=True)
class Facts:
    """What the decision needs to know beside policy and load.

    `since_us` is when the endpoint became able to serve, None while it is starting. `wake` is an unhandled wish to
    wake (Request or Annotation), `sleep` one to sleep. `blocked` says why no pod may be started; what runs, runs on.
    `give_up` ends a start that failed. `lowered_us` is when replicas were last taken away, None for never.
    `verify` asks for a start that proves the spec; `verifying_us` is when the present replicas were asked for only for
    that, None where they were not, and `proven` whether one of the present spec is ready. `unrecorded` are replicas
    that an operator scaled to and died before it wrote so.
    """

    replicas: int = 0
    since_us: int | None = None
    wake: Why | None = None
    sleep: bool = False
    blocked: str = ""
    give_up: bool = False
    lowered_us: int | None = None
    verify: bool = False
    verifying_us: int | None = None
    proven: bool = False
    unrecorded: int = 0


@dataclass(frozen=True, slots=True)
class Decision:
    """The replicas to have, why, what keeps the endpoint awake, and when to decide again (None: on a change)."""

    replicas: int
    why: Why
    message: str = ""
    kept_by: str = ""
    until_us: int | None = None


def wanted(load: Load, policy: Policy, serving: int = 0) -> int:
    """Return the replicas that the load asks for by itself, unbounded: the largest number of all targets.

    `serving` are the replicas that take requests now. Waiting counts by them, not by those that were asked for: what
    is starting already will shorten the line.
    """
    most = -(-load.requests // policy.target)
    if policy.engine_queue:
        most = max(most, -(-load.queued // policy.engine_queue))
    if policy.tokens:
        most = max(most, -(-load.tokens // policy.tokens))
    if not policy.queue_delay_us or load.wait_us <= policy.queue_delay_us:
        return most
    by_wait = min(-(-serving * load.wait_us // policy.queue_delay_us), 2 * serving)
    return max(most, by_wait)


def decide(policy: Policy, load: Load, window: Window, facts: Facts, now_us: int) -> Decision:
    """Return the decision; `window` holds what was wanted until now, `wanted(load, policy)` included."""
    if policy.suspended:
        return Decision(0, Why.SUSPENDED, "the endpoint is suspended")
    if facts.give_up:
        return Decision(0, Why.START_FAILED, "the start failed and was given up")
    decision = _told(policy, facts, _unblocked(policy, load, window, facts, now_us))
    if facts.blocked and decision.replicas > facts.replicas:
        return Decision(facts.replicas, Why.BLOCKED, facts.blocked, decision.kept_by, decision.until_us)
    if not facts.replicas and decision.replicas and facts.since_us is not None:
        # What an operator scaled before it died serves already: no change will call for the next look.
        return replace(decision, until_us=now_us + _SOON_US)
    return decision


def _unblocked(policy: Policy, load: Load, window: Window, facts: Facts, now_us: int) -> Decision:
    if policy.pinned:
        return Decision(policy.pinned, Why.PINNED, "pinnedReplicas is set", "pinnedReplicas")
    if facts.replicas == 0:
        return _asleep(policy, load, facts, now_us)
    return _awake(policy, load, window, facts, now_us)


def _told(policy: Policy, facts: Facts, decision: Decision) -> Decision:
    """Return a decision that says so where replicas go that would be kept if a budget did not withhold them."""
    kept = min(facts.replicas, policy.withheld_replicas)
    if decision.why not in (Why.IDLE, Why.DEMAND) or decision.replicas >= kept:
        return decision
    return replace(decision, why=Why.BUDGET, message=f"{policy.withheld}; {decision.message}")


def _asleep(policy: Policy, load: Load, facts: Facts, now_us: int) -> Decision:
    first = max(1, policy.min_replicas, wanted(load, policy))
    if facts.wake is not None:
        why = _held(load) if facts.wake is Why.REQUEST else "an annotation asked for it"
        return Decision(min(first, policy.max_replicas), facts.wake, why)
    if load.held:
        return Decision(min(first, policy.max_replicas), Why.DEMAND, _held(load))
    if policy.min_replicas:
        # What is still in flight counts at once, or the next look would change the decision.
        why = Why(policy.min_by)
        return Decision(min(first, policy.max_replicas), why, f"{policy.min_reason} asks for it", policy.min_reason)
    if facts.verify:
        return Decision(1, Why.VERIFY, "the spec changed, and is to be proven to start")
    if facts.unrecorded:
        # Whoever was woken may have somebody's request, and an activator that has told nothing yet, too.
        resting = rest(load, policy.idle_us, facts.since_us, now_us)
        if not resting.asleep:
            replicas = min(facts.unrecorded, policy.max_replicas)
            return Decision(replicas, Why.DEMAND, "it was woken before", resting.kept_by, resting.until_us)
    return Decision(0, Why.UNCHANGED)


def _awake(policy: Policy, load: Load, window: Window, facts: Facts, now_us: int) -> Decision:
    floor, kept, until = policy.min_replicas, policy.min_reason, None
    if not floor:
        if facts.sleep and not load.active and not load.missing:
            return Decision(0, Why.SLEEP_REQUESTED, "an annotation asked for it")
        alone = unasked(load, facts.verifying_us)
        resting = rest(load, 0 if alone else policy.idle_us, facts.since_us, now_us)
        if resting.asleep:
            return _proof(facts) if alone else Decision(0, Why.IDLE, "no request for the idle timeout")
        floor, kept, until = 1, resting.kept_by, resting.until_us
    target, moves = _by_load(policy, window, facts, floor, now_us)
    if load.missing:
        # Who says nothing may be asked for as much as before.
        target = max(target, facts.replicas)
    replicas = min(max(target, floor), policy.max_replicas)
    if policy.queue_delay_us and load.held:
        moves = (*moves, now_us + _LINE_US)
    if load.backlog is not None and load.active:
        moves = (*moves, load.backlog.until_us)
    until = min((time for time in (until, *moves) if time is not None), default=None)
    if replicas == facts.replicas:
        return Decision(replicas, Why.UNCHANGED, "", kept, until)
    if facts.replicas < policy.min_replicas:
        return Decision(replicas, Why(policy.min_by), f"{policy.min_reason} asks for it", kept, until)
    return Decision(replicas, Why.DEMAND, _asked(policy, load), kept, until)


def unasked(load: Load, verifying_us: int | None) -> bool:
    """Tell whether replicas that were asked for only to prove something have been asked nothing since.

    Whoever asked wants them for longer than it takes to prove it.
    """
    return verifying_us is not None and not load.active and load.last_request_us <= verifying_us


def _proof(facts: Facts) -> Decision:
    if facts.proven:
        return Decision(0, Why.VERIFIED, "the spec was proven to start, and nobody asks")
    return Decision(0, Why.START_FAILED, "no node had room for the start that was to prove the spec")


def _asked(policy: Policy, load: Load) -> str:
    """Return by what the load asks for replicas."""
    requests = counted(load.held + load.in_flight, "request")
    requests += f"{_weighed(load)} at a target of {policy.target} per replica"
    if policy.engine_queue and load.queued:
        requests += f", {load.queued} of them waiting within engines at one of {policy.engine_queue}"
    if policy.tokens and load.tokens:
        requests += f", {counted(load.tokens, 'token')} in flight at {policy.tokens}"
    if not policy.queue_delay_us or load.wait_us <= policy.queue_delay_us:
        return requests
    wait, most = (format_duration(each) for each in (load.wait_us // 1000 * 1000, policy.queue_delay_us))
    return f"{requests}; they wait for {wait}, where {most} is the target"


def _held(load: Load) -> str:
    """Return what is held, of which the activator that asked may have told nothing yet."""
    return f"{counted(load.held, 'request')} held{_weighed(load)}" if load.held else "a request is held"


def _weighed(load: Load) -> str:
    """Return why requests count as fewer than they are, nothing where they do not."""
    known = load.backlog
    if known is None or load.requests == load.held + load.in_flight:
        return ""
    rate, each = known.came * SECOND / SPAN_US, format_duration(known.service_us)
    return (
        f", which count as {load.requests} until the backlog of the start is gone "
        f"({rate:.1f} come a second and take {each} each; {format_duration(known.drain_us)} to work it off)"
    )


def _by_load(
    policy: Policy, window: Window, facts: Facts, floor: int, now_us: int
) -> tuple[int, tuple[int | None, ...]]:
    """Return the replicas that the window asks for, and when it may ask for others although the load stays."""
    replicas = facts.replicas
    up = min(window.within(now_us, policy.scale_up_us, replicas))
    # Who stands at the floor has nowhere to go, and need not be looked at for it.
    down = max(floor, *window.within(now_us, policy.scale_down_us, replicas))
    moves = [
        window.next_change_us(now_us, policy.scale_up_us),
        window.next_change_us(now_us, policy.scale_down_us) if replicas > 1 else None,
    ]
    if window.latest > 2 * replicas:
        # So far above that waiting for certainty costs more than a replica too many.
        panic = min(window.within(now_us, policy.panic_us, replicas))
        up = max(up, panic if panic > 2 * replicas else 0)
        moves.append(window.next_change_us(now_us, policy.panic_us))
    if up > replicas:
        return up, tuple(moves)
    if down < replicas and policy.pace_us:
        next_us = 0 if facts.lowered_us is None else facts.lowered_us + policy.pace_us
        # A clock that fell must not hold them for ever.
        if now_us < next_us <= now_us + policy.pace_us:
            return replicas, (*moves, next_us)
        down = max(down, replicas - replicas // 2)
        return down, (*moves, now_us + policy.pace_us)
    return min(down, replicas), tuple(moves)
