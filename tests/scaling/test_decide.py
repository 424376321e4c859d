"""The number of replicas: each rule by example."""

from __future__ import annotations

from dataclasses import replace

import pytest

from zerotide.api.scalars import MINUTE, SECOND
from zerotide.scaling.decide import Decision, Facts, Why, decide, wanted
from zerotide.scaling.demand import Load
from zerotide.scaling.idle import rest
from zerotide.scaling.policy import Policy
from zerotide.scaling.window import Window

NOW = 1_790_000_000 * SECOND
POLICY = Policy(max_replicas=5, target=2)
QUIET = Load(last_activity_us=NOW - 10 * MINUTE, reported_us=NOW)


def take(policy: Policy = POLICY, load: Load = QUIET, facts: Facts | None = None, now: int = NOW) -> Decision:
    """Decide with a window that has seen nothing but the present load, for long."""
    window = Window().add(now - 3600 * SECOND, wanted(load, policy), 3600 * SECOND)
    return decide(policy, load, window, facts or Facts(), now)


WITHHELD = replace(POLICY, min_replicas=2).withholding("budget b of the namespace: it is used up")
UP = Facts(replicas=1, since_us=NOW - 20 * MINUTE)
PROVING = Facts(replicas=1, since_us=NOW - 2 * SECOND, verifying_us=NOW - 5 * SECOND, proven=True)


@pytest.mark.parametrize(
    ("policy", "load", "facts", "replicas", "why"),
    [
        (POLICY, QUIET, Facts(), 0, Why.UNCHANGED),
        (POLICY, QUIET, Facts(wake=Why.REQUEST), 1, Why.REQUEST),
        (POLICY, QUIET, Facts(wake=Why.ANNOTATION), 1, Why.ANNOTATION),
        (POLICY, replace(QUIET, held=1), Facts(), 1, Why.DEMAND),
        (POLICY, QUIET, Facts(unrecorded=2), 2, Why.DEMAND),
        (POLICY, QUIET, Facts(unrecorded=9), 5, Why.DEMAND),
        (POLICY, QUIET, Facts(unrecorded=2, since_us=NOW - 20 * MINUTE), 0, Why.UNCHANGED),
        (POLICY, QUIET, Facts(unrecorded=2, since_us=NOW - SECOND), 2, Why.DEMAND),
        (POLICY, replace(QUIET, in_flight=1), Facts(unrecorded=2, since_us=NOW - 20 * MINUTE), 2, Why.DEMAND),
        (POLICY, replace(QUIET, missing=("x",)), Facts(unrecorded=2, since_us=NOW - 20 * MINUTE), 2, Why.DEMAND),
        (replace(POLICY, suspended=True), replace(QUIET, in_flight=1), Facts(unrecorded=2), 0, Why.SUSPENDED),
        (POLICY, replace(QUIET, held=1, reported_us=0, missing=("x",)), Facts(), 1, Why.DEMAND),
        (POLICY, replace(QUIET, held=7), Facts(wake=Why.REQUEST), 4, Why.REQUEST),
        (POLICY, replace(QUIET, held=99), Facts(wake=Why.REQUEST), 5, Why.REQUEST),
        (replace(POLICY, suspended=True), replace(QUIET, held=9), replace(UP, wake=Why.REQUEST), 0, Why.SUSPENDED),
        (replace(POLICY, suspended=True, pinned=2, min_replicas=1), QUIET, UP, 0, Why.SUSPENDED),
        (replace(POLICY, pinned=3), replace(QUIET, held=99), UP, 3, Why.PINNED),
        (replace(POLICY, pinned=3), QUIET, Facts(), 3, Why.PINNED),
        (replace(POLICY, pinned=3), QUIET, replace(UP, give_up=True), 0, Why.START_FAILED),
        (replace(POLICY, min_replicas=2), QUIET, Facts(), 2, Why.MIN_REPLICAS),
        (replace(POLICY, min_replicas=1), replace(QUIET, in_flight=3), Facts(), 2, Why.MIN_REPLICAS),
        (replace(POLICY, min_replicas=2), QUIET, UP, 2, Why.MIN_REPLICAS),
        (replace(POLICY, min_replicas=2), QUIET, Facts(blocked="no"), 0, Why.BLOCKED),
        (POLICY, QUIET, UP, 0, Why.IDLE),
        (POLICY, replace(QUIET, in_flight=1), UP, 1, Why.UNCHANGED),
        (POLICY, replace(QUIET, in_flight=3), UP, 2, Why.DEMAND),
        (POLICY, replace(QUIET, in_flight=3), replace(UP, blocked="no"), 1, Why.BLOCKED),
        (POLICY, replace(QUIET, last_activity_us=NOW), replace(UP, replicas=4), 2, Why.DEMAND),
        (POLICY, replace(QUIET, last_activity_us=NOW), replace(UP, replicas=2), 1, Why.DEMAND),
        (POLICY, replace(QUIET, last_activity_us=NOW), replace(UP, replicas=4, lowered_us=NOW), 4, Why.UNCHANGED),
        (POLICY, replace(QUIET, last_activity_us=NOW), replace(UP, replicas=4, lowered_us=NOW + MINUTE), 2, Why.DEMAND),
        (
            replace(POLICY, scale_down_us=0),
            replace(QUIET, last_activity_us=NOW),
            replace(UP, replicas=4),
            1,
            Why.DEMAND,
        ),
        (POLICY, replace(QUIET, last_activity_us=NOW), replace(UP, sleep=True), 0, Why.SLEEP_REQUESTED),
        (POLICY, replace(QUIET, in_flight=1), replace(UP, sleep=True), 1, Why.UNCHANGED),
        (POLICY, replace(QUIET, missing=("x",), reported_us=0), replace(UP, sleep=True), 1, Why.UNCHANGED),
        (POLICY, replace(QUIET, missing=("x",), reported_us=0), replace(UP, replicas=4), 4, Why.UNCHANGED),
        (POLICY, replace(QUIET, in_flight=9, missing=("x",), reported_us=0), replace(UP, replicas=4), 5, Why.DEMAND),
        (
            replace(POLICY, max_replicas=2),
            replace(QUIET, missing=("x",), reported_us=0),
            replace(UP, replicas=4),
            2,
            Why.DEMAND,
        ),
        (replace(POLICY, max_replicas=2), replace(QUIET, in_flight=99), replace(UP, replicas=5), 2, Why.DEMAND),
        (WITHHELD, QUIET, replace(UP, replicas=2), 0, Why.BUDGET),
        (WITHHELD, QUIET, Facts(), 0, Why.UNCHANGED),
        (WITHHELD, replace(QUIET, held=1), Facts(), 1, Why.DEMAND),
        (WITHHELD, replace(QUIET, in_flight=1), replace(UP, replicas=2), 1, Why.BUDGET),
        (WITHHELD, replace(QUIET, in_flight=5), replace(UP, replicas=2), 3, Why.DEMAND),
        (WITHHELD, replace(QUIET, in_flight=5), replace(UP, replicas=4), 3, Why.DEMAND),
        (WITHHELD, QUIET, replace(UP, sleep=True), 0, Why.SLEEP_REQUESTED),
        (replace(WITHHELD, pinned=3), QUIET, Facts(), 3, Why.PINNED),
        (POLICY.withholding("b"), QUIET, UP, 0, Why.IDLE),
        (POLICY, QUIET, Facts(verify=True), 1, Why.VERIFY),
        (POLICY, QUIET, Facts(verify=True, wake=Why.REQUEST), 1, Why.REQUEST),
        (POLICY, QUIET, Facts(verify=True, blocked="no"), 0, Why.BLOCKED),
        (replace(POLICY, suspended=True), QUIET, Facts(verify=True), 0, Why.SUSPENDED),
        (POLICY, QUIET, PROVING, 0, Why.VERIFIED),
        (POLICY, QUIET, replace(PROVING, proven=False), 0, Why.START_FAILED),
        (POLICY, QUIET, replace(PROVING, since_us=None), 1, Why.UNCHANGED),
        (POLICY, replace(QUIET, held=1), PROVING, 1, Why.UNCHANGED),
        (POLICY, replace(QUIET, reported_us=NOW - 3 * SECOND), PROVING, 1, Why.UNCHANGED),
        (POLICY, replace(QUIET, last_activity_us=NOW, last_request_us=NOW), PROVING, 1, Why.UNCHANGED),
        (replace(POLICY, min_replicas=1), QUIET, PROVING, 1, Why.UNCHANGED),
    ],
)
def test_rules(policy: Policy, load: Load, facts: Facts, replicas: int, why: Why) -> None:
    """One row per rule."""
    decision = take(policy, load, facts)
    assert (decision.replicas, decision.why) == (replicas, why)


def test_a_budget_that_takes_replicas_away_is_told() -> None:
    """With what would keep them, and what the budget says."""
    decision = take(WITHHELD, QUIET, replace(UP, replicas=2))
    said = "minReplicas keeps none: budget b of the namespace: it is used up; no request for the idle timeout"
    assert decision.message == said and decision.kept_by == ""


@pytest.mark.parametrize(
    ("load", "since", "kept"),
    [
        (replace(QUIET, in_flight=1), UP.since_us, "in flight"),
        (replace(QUIET, held=1), UP.since_us, "held"),
        (QUIET, None, "start in progress"),
        (replace(QUIET, missing=("act-1",), reported_us=0), UP.since_us, "no report from act-1"),
        (replace(QUIET, last_activity_us=NOW - MINUTE), UP.since_us, "idle timeout"),
        (QUIET, NOW - MINUTE, "idle timeout"),
        (replace(QUIET, reported_us=QUIET.last_activity_us + 5 * MINUTE - 1), UP.since_us, "next report"),
    ],
)
def test_what_keeps_an_endpoint_awake(load: Load, since: int | None, kept: str) -> None:
    """Each condition of sleep alone is enough to stay awake, and is told."""
    resting = rest(load, 5 * MINUTE, since, NOW)
    assert not resting.asleep and kept in resting.kept_by
    assert resting.until_us is None or resting.until_us > NOW


def test_sleep_comes_exactly_at_the_deadline() -> None:
    """Not a microsecond before."""
    load = replace(QUIET, last_activity_us=NOW - 5 * MINUTE)
    assert not rest(load, 5 * MINUTE, 0, NOW - 1).asleep
    assert rest(load, 5 * MINUTE, 0, NOW).asleep


def test_stabilization() -> None:
    """A peak is followed after its time up, a dip after its time down."""
    policy = replace(POLICY, scale_up_us=10 * SECOND, scale_down_us=60 * SECOND)
    busy, calm = replace(QUIET, in_flight=8), replace(QUIET, in_flight=1)
    facts = replace(UP, replicas=2)
    window = Window().add(NOW - 100 * SECOND, wanted(replace(QUIET, in_flight=4), policy), 60 * SECOND)
    window = window.add(NOW, wanted(busy, policy), 60 * SECOND)
    first = decide(policy, busy, window, facts, NOW)
    assert first.replicas == 2 and first.until_us == NOW + 10 * SECOND
    assert decide(policy, busy, window, facts, NOW + 10 * SECOND).replicas == 4
    window = window.add(NOW + 11 * SECOND, wanted(calm, policy), 60 * SECOND)
    facts = replace(facts, replicas=4)
    dip = decide(policy, calm, window, facts, NOW + 11 * SECOND)
    assert dip.replicas == 4 and dip.until_us is not None
    assert decide(policy, calm, window, facts, NOW + 72 * SECOND).replicas == 2, "no more than half at once"
    facts = replace(facts, replicas=2, lowered_us=NOW + 72 * SECOND)
    pause = decide(policy, calm, window, facts, NOW + 73 * SECOND)
    assert pause.replicas == 2 and pause.until_us == NOW + 102 * SECOND
    assert decide(policy, calm, window, facts, NOW + 102 * SECOND).replicas == 1


def test_panic() -> None:
    """More than twice as many as there are, for a tenth of the time, need no more certainty; a few more do."""
    policy = replace(POLICY, scale_up_us=60 * SECOND)
    facts = replace(UP, replicas=2)
    window = Window().add(NOW - 100 * SECOND, 2, 60 * SECOND).add(NOW, 5, 60 * SECOND)
    busy = replace(QUIET, in_flight=10)
    first = decide(policy, busy, window, facts, NOW + 5 * SECOND)
    assert first.replicas == 2 and first.until_us == NOW + 6 * SECOND
    assert decide(policy, busy, window, facts, NOW + 6 * SECOND).replicas == 5
    window = Window().add(NOW - 100 * SECOND, 2, 60 * SECOND).add(NOW, 3, 60 * SECOND)
    some = replace(QUIET, in_flight=6)
    assert decide(policy, some, window, facts, NOW + 30 * SECOND).replicas == 2
    assert decide(policy, some, window, facts, NOW + 60 * SECOND).replicas == 3


@pytest.mark.parametrize(
    ("wait", "serving", "expected"),
    [(0, 2, 1), (500, 2, 1), (501, 2, 3), (750, 2, 3), (751, 2, 4), (60_000, 2, 4), (60_000, 0, 1), (60_000, 5, 10)],
)
def test_waiting_asks_for_replicas_in_proportion(wait: int, serving: int, expected: int) -> None:
    """By those that serve, at most as many again; the larger of both targets wins; a wake is no wait."""
    policy = replace(POLICY, queue_delay_us=500_000)
    load = replace(QUIET, held=2, wait_us=wait * 1000)
    assert wanted(load, policy, serving) == expected
    assert wanted(replace(load, held=40), policy, serving) == max(expected, 20)
    assert wanted(load, POLICY, serving) == 1, "where it is not asked for it does not matter"


def test_what_waits_within_engines_asks_for_replicas_where_it_is_asked_for() -> None:
    """The largest of all targets wins, and a silent engine takes nothing away."""
    policy = replace(POLICY, engine_queue=4)
    load = replace(QUIET, in_flight=4, last_activity_us=NOW, queued=13)
    assert wanted(load, policy) == 4 and wanted(load, POLICY) == 2
    assert wanted(replace(load, queued=0), policy) == 2 and wanted(replace(load, in_flight=20), policy) == 10
    grown = take(policy, load, UP)
    assert grown.replicas == 4 and "13 of them waiting within engines at one of 4" in grown.message


def test_tokens_in_flight_ask_for_replicas_where_they_are_asked_for() -> None:
    """A few long prompts weigh as much as many short ones; the largest of all targets wins."""
    policy = replace(POLICY, tokens=10_000)
    load = replace(QUIET, in_flight=4, last_activity_us=NOW, tokens=30_001)
    assert wanted(load, policy) == 4 and wanted(load, POLICY) == 2
    assert wanted(replace(load, tokens=0), policy) == 2 and wanted(replace(load, in_flight=20), policy) == 10
    grown = take(policy, load, UP)
    assert grown.replicas == 4 and grown.message.endswith("replica, 30001 tokens in flight at 10000")


def test_a_line_is_looked_at_again_and_told() -> None:
    """It grows older without any news of it."""
    policy = replace(POLICY, queue_delay_us=500_000)
    load = replace(QUIET, held=2, last_activity_us=NOW, wait_us=800_000)
    window = Window().add(NOW, wanted(load, policy, 1), 60 * SECOND)
    grown = decide(policy, load, window, UP, NOW)
    assert grown.replicas == 2 and "wait for 800ms" in grown.message and "500ms is the target" in grown.message
    waiting = decide(policy, replace(load, wait_us=0), Window().add(NOW, 1, MINUTE), UP, NOW)
    assert waiting.replicas == 1 and waiting.until_us is not None and waiting.until_us <= NOW + SECOND


def test_a_fresh_window_removes_nothing() -> None:
    """After a restart nobody knows what was wanted a moment ago."""
    window = Window().add(NOW, 1, MINUTE)
    load = replace(QUIET, in_flight=1)
    assert decide(POLICY, load, window, replace(UP, replicas=3), NOW).replicas == 3
    assert decide(POLICY, load, window, replace(UP, replicas=3), NOW + MINUTE).replicas == 2


def test_a_clock_that_falls_keeps_nobody_from_growing() -> None:
    """What was wanted in a time that is yet to come again holds nothing back, and takes nothing away."""
    window = Window().add(NOW - MINUTE, 1, MINUTE).add(NOW, 2, MINUTE)
    now, busy = NOW - 3600 * SECOND, replace(QUIET, in_flight=8, last_activity_us=NOW)
    window = window.add(now, wanted(busy, POLICY), MINUTE)
    assert decide(POLICY, busy, window, replace(UP, replicas=2), now).replicas == 4


def test_what_serves_already_when_it_is_woken_is_looked_at_again() -> None:
    """An operator that died between its scaling and its writing leaves a replica whose readiness is no news."""
    served = replace(UP, replicas=0, wake=Why.REQUEST)
    decision = take(facts=served)
    assert decision.replicas == 1
    assert decision.until_us is not None and decision.until_us < NOW + SECOND
    assert take(facts=replace(served, replicas=1)).why is Why.IDLE
    assert take(facts=replace(served, since_us=None)).until_us is None, "a start in progress tells of itself"
    assert take(facts=replace(served, blocked="no")).until_us is None, "nothing was done that time alone goes on with"
