"""start.verify: a spec that changed is proven to start, once, boundedly often, and never against its owner's will."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.reconcile.helpers import endpoint, pod, raw
from tests.reconcile.world import QUIET, World, awake, truth
from zerotide.api.conditions import Reason
from zerotide.api.endpoint import VerificationStatus
from zerotide.api.scalars import SECOND
from zerotide.reconcile.diagnosis import Finding
from zerotide.reconcile.observed import Withheld
from zerotide.reconcile.pods import Exit, Stage
from zerotide.reconcile.verifying import Outcome, Verification, ended, told, verification
from zerotide.scaling.decide import Decision, Why

VERIFY: dict[str, Any] = {"start": {"verify": "OnChange", "maxFailures": 2}}
CRASH: dict[str, Any] = {"waiting": "CrashLoopBackOff", "restarts": 2, "exit": Exit("Error", 1, "boom")}


def new(**spec: Any) -> World:
    """Return a world whose endpoint was just made."""
    world = World(obj=raw({**VERIFY, **spec}))
    world.settle()
    return world


def verified(world: World) -> tuple[str, str]:
    """Return status and reason of the condition."""
    condition = world.condition("Verified")
    return condition["status"], condition["reason"]


def wakes(world: World) -> int:
    """Return how many of the decisions that are remembered are wakes to verify."""
    return sum(each["reason"] == "Verify" for each in world.status["decisions"])


def gone(world: World) -> None:
    """Have the pods end."""
    world.pods = ()
    world.settle()


def test_a_new_spec_starts_once_and_goes_to_sleep_again() -> None:
    """As soon as it is ready, whatever the idle timeout; what was proven stays so."""
    world = new()
    assert world.replicas == 1 and world.status["lastDecision"]["reason"] == "Verify"
    assert verified(world) == ("Unknown", "Verifying") and truth(world)[0] == "True"
    world.run_pods(Stage.RUNNING)
    world.pass_time(3)
    world.settle()
    assert world.replicas == 1
    world.run_pods(Stage.READY, created_us=world.now_us - 3 * SECOND)
    world.settle()
    assert world.replicas == 0 and world.status["lastDecision"]["reason"] == "Verified"
    assert verified(world) == ("True", "Started")
    assert world.condition("Verified")["message"] == "a replica was ready within 4s"
    assert [notice.reason for notice in world.notices].count("Verified") == 1
    gone(world)
    assert world.status["state"] == "Asleep" and world.replicas == 0
    world.spec(hold={"maxRequests": 7})
    world.settle()
    assert world.replicas == 0 and verified(world) == ("True", "Started"), "no pod is made of that"
    world.spec(runtime={"image": "runtime:9"})
    world.settle()
    assert world.replicas == 1 and verified(world) == ("Unknown", "Verifying")


def test_nothing_is_started_where_nobody_asks_for_it() -> None:
    """Never is the default, and says nothing."""
    world = World()
    world.settle()
    assert world.replicas == 0 and "verification" not in world.status
    assert not any(each["type"] == "Verified" for each in world.status["conditions"])


def test_who_asks_meanwhile_is_served_for_the_idle_timeout() -> None:
    """The replica is then there for them."""
    world = new()
    world.run_pods(Stage.READY)
    world.load = replace(QUIET, in_flight=1, last_activity_us=world.now_us + 1, last_request_us=world.now_us + 1)
    world.pass_time(1)
    world.settle()
    assert world.replicas == 1 and verified(world) == ("True", "Started")
    world.load = replace(world.load, in_flight=0)
    world.pass_time(298)
    world.settle()
    assert world.replicas == 1 and world.status["keptAwakeBy"] == "the idle timeout"
    world.pass_time(3)
    world.settle()
    assert world.replicas == 0 and world.status["lastDecision"]["reason"] == "Idle"


def test_it_sleeps_only_where_every_activator_says_that_nobody_asks() -> None:
    """A missing report means awake, here too."""
    world = new()
    world.load = replace(QUIET, missing=("act-1",), reported_us=0)
    world.run_pods(Stage.READY)
    world.settle()
    assert world.replicas == 1 and world.status["keptAwakeBy"] == "no report from act-1"
    world.load = QUIET
    world.settle()
    assert world.replicas == 0


def test_a_spec_that_cannot_start_is_tried_as_often_as_failures_are_allowed() -> None:
    """Then it is told, and asleep: the next request tries again, and proves it after all."""
    world = new()
    for number in (1, 2):
        assert world.replicas == 1
        world.run_pods(Stage.SCHEDULED, **CRASH)
        world.pass_time(1)
        world.step()
        assert world.status["state"] == "Failed" and verified(world)[0] == "Unknown" and world.replicas == 1
        world.pass_time(1)
        world.settle()
        assert world.replicas == 0 and world.status["verification"]["failures"] == number, "nobody waits for it"
        gone(world)
        world.pass_time(61)
        world.settle()
    assert world.replicas == 0 and wakes(world) == 2
    assert verified(world) == ("False", "CrashLooping") and "boom" in world.condition("Verified")["message"]
    assert world.status["state"] == "Asleep" and truth(world)[:2] == ["True", "True"]
    assert "its spec was not proven to start: CrashLooping" in world.condition("Ready")["message"]
    assert [each.reason for each in world.warnings.values()].count("NotVerified") == 1
    world.wish("w1")
    world.step()
    world.run_pods(Stage.READY)
    world.settle()
    assert verified(world) == ("True", "Started") and "failures" in world.status["verification"]


def test_a_start_without_room_ends_with_the_capacity_timeout() -> None:
    """Nobody waits for it, so it does not wait on; it counts as a failure."""
    world = new(start={**VERIFY["start"], "capacityTimeout": "1m"}, hold={"coldTimeout": "1m"})
    for _ in range(2):
        world.run_pods(Stage.UNSCHEDULABLE, unscheduled="0/1 nodes are available")
        world.pass_time(59)
        world.settle()
        assert world.replicas == 1
        world.pass_time(2)
        world.settle()
        world.pods = ()
        world.settle()
    assert world.replicas == 0 and verified(world) == ("False", "Unschedulable")
    assert "0/1 nodes are available" in world.status["verification"]["message"]
    assert world.status["lastDecision"]["reason"] == "StartFailed"


def test_a_suspended_endpoint_is_never_started() -> None:
    """Nor is a start that was under way counted; it begins anew when the suspension ends."""
    world = new(suspend=True)
    assert world.replicas == 0 and verified(world) == ("Unknown", "Suspended")
    world.spec(suspend=False)
    world.settle()
    assert world.replicas == 1
    world.spec(suspend=True)
    world.settle()
    assert world.replicas == 0 and verified(world) == ("Unknown", "Suspended")
    assert "failures" not in world.status["verification"] or not world.status["verification"]["failures"]


def test_a_budget_that_withholds_replicas_withholds_this_one() -> None:
    """It keeps none without requests; what it costs is put off until the budget's next window."""
    world = World(obj=raw(VERIFY), withheld=Withheld("budget b: it is used up", None))
    world.settle()
    assert world.replicas == 0 and verified(world) == ("Unknown", "Verifying")
    world.withheld = None
    world.settle()
    assert world.replicas == 1


def test_who_is_put_to_sleep_is_not_woken_against_it() -> None:
    """The annotation ends the proof."""
    world = new()
    world.obj["metadata"]["annotations"] = {"zerotide.dev/sleep-requested-at": "now"}
    world.settle()
    gone(world)
    assert world.replicas == 0 and verified(world) == ("False", "SleepRequested")


def test_a_roll_out_proves_the_spec_by_itself() -> None:
    """No wake is needed where replicas serve."""
    world = awake(World(obj=raw(VERIFY), load=replace(QUIET, in_flight=1)))
    assert verified(world) == ("True", "Started")
    old = replace(world.pods[0], name="a-old", uid="old")
    world.spec(runtime={"image": "runtime:9"})
    world.step()
    assert verified(world) == ("Unknown", "Verifying")
    world.run_pods(Stage.READY)
    world.pods = (old, *world.pods)
    world.settle()
    assert verified(world) == ("True", "Started") and wakes(world) == 1, "that of the first spec"


def test_a_roll_out_that_nobody_waited_for_is_no_failure() -> None:
    """It fell asleep over it; the spec is proven then."""
    world = awake(World(obj=raw(VERIFY), load=replace(QUIET, in_flight=1)))
    world.pass_time(1)
    world.load = replace(QUIET, last_activity_us=world.now_us, last_request_us=world.now_us)
    old = replace(world.pods[0], name="a-old", uid="old")
    world.spec(runtime={"image": "runtime:9"})
    world.step()
    world.run_pods(Stage.RUNNING)
    world.pods = (old, *world.pods)
    world.pass_time(301)
    world.settle()
    assert world.status["verification"].get("failures", 0) == 0
    gone(world)
    assert world.replicas == 1 and world.status["lastDecision"]["reason"] == "Verify"


def test_a_spec_that_makes_no_pod_is_not_proven() -> None:
    """Nothing is started; the reason is told here as well."""
    world = new(podTemplate={"spec": {"hostPID": True}})
    assert verified(world) == ("False", "PodRefused") and world.status["verification"]["outcome"] == "Pending"
    world.obj["spec"].pop("podTemplate")
    world.spec()
    world.settle()
    assert world.replicas == 1


STAGES = {"crash": Stage.SCHEDULED, "room": Stage.UNSCHEDULABLE, "load": Stage.RUNNING}


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 3), st.lists(st.tuples(st.sampled_from([*STAGES, "gone", "wait"]), st.integers(1, 2000))))
def test_a_spec_is_started_boundedly_often_for_proof(most: int, events: list[tuple[str, int]]) -> None:
    """Whatever happens to its pods, and whenever, as long as none becomes ready."""
    world = World(obj=raw({"start": {"verify": "OnChange", "maxFailures": most}}))
    world.settle()
    started, before = 1, world.replicas
    for event, seconds in events:
        if event == "gone" or not world.replicas:
            world.pods = ()
        elif event != "wait":
            world.run_pods(STAGES[event], **(CRASH if event == "crash" else {}))
        world.pass_time(seconds)
        for _ in range(4):
            world.step()
            started, before = started + (world.replicas > before), world.replicas
    assert started <= most
    failed = world.status["verification"]["outcome"] == "Failed"
    assert failed == (world.status["verification"].get("failures", 0) == most)


def known(outcome: str, digest: str = "d") -> Any:
    """Return an endpoint of which something is known."""
    record = VerificationStatus(spec_digest=digest, outcome=outcome, failures=1, reason="R", message="m").dump()
    return endpoint(VERIFY, status={"verification": record})


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [("Succeeded", Outcome.SUCCEEDED), ("Failed", Outcome.FAILED), ("Later", Outcome.PENDING)],
)
def test_what_was_known_is_read_back(outcome: str, expected: Outcome) -> None:
    """A word of a newer version is no proof, and another spec is another matter."""
    found = verification(known(outcome), "d", ())
    assert found is not None and (found.outcome, found.failures, found.reason) == (expected, 1, "R")
    assert verification(known(outcome), "e", ()) == Verification("e")
    assert verification(known("Pending"), "d", [pod(Stage.RUNNING)]) == Verification(
        "d", failures=1, reason="R", message="m"
    )


def test_how_it_is_told() -> None:
    """As one condition, from what is known and what stands in the way."""
    pending, finding = Verification("d"), Finding(Reason.NAME_CONFLICT, "taken")
    assert told(pending, None, False)[:2] == ("Unknown", "Verifying")
    assert told(pending, finding, False) == ("False", "NameConflict", "taken")
    assert told(pending, finding, True)[:2] == ("Unknown", "Suspended")
    assert "start 2 failed: why" in told(replace(pending, failures=2, message="why"), None, False).message
    failed = replace(pending, outcome=Outcome.FAILED, reason="R", message="m")
    assert told(failed, None, True) == ("False", "R", "m")


def test_what_is_no_failure() -> None:
    """What is decided already, and what its owner asked for."""
    over = Decision(0, Why.SUSPENDED)
    assert ended(Verification("d"), over, None, 1) == Verification("d")
    done = Verification("d", Outcome.SUCCEEDED)
    assert ended(done, Decision(0, Why.START_FAILED), None, 1) == done
    assert ended(Verification("d"), Decision(0, Why.START_FAILED, "no"), None, 1).outcome is Outcome.FAILED
