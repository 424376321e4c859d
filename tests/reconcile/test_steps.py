"""The steps of a start, of being awake and of falling asleep: which of them are written, and when."""

from __future__ import annotations

from dataclasses import replace

from tests.reconcile.helpers import NOW
from tests.reconcile.world import QUIET, World, awake, truth
from zerotide.api.scalars import MINUTE, SECOND, format_micro_time, format_time
from zerotide.reconcile.child import Kind
from zerotide.reconcile.pods import Proof, Stage
from zerotide.reconcile.steer import Scale


def test_a_wake_scales_and_nothing_else_comes_first() -> None:
    """The one write to the Deployment is its replicas."""
    world = World()
    world.settle()
    world.wish("w1")
    steering, _ = world.look()
    assert isinstance(steering.move, Scale) and steering.move.replicas == 1
    before = world.status
    world.step()
    assert world.replicas == 1 and world.status == before, "the pod comes first, the status half a second later"
    world.pass_time(0.5)
    world.step()
    assert world.status["handledWakeRequest"] == "w1" and world.status["desiredReplicas"] == 1
    assert [notice.reason for notice in world.notices] == ["Scaled"], "what was put off is told all the same"
    assert world.status["state"] == "Waking" and truth(world) == ["True", "True", "False", "False", "False"]
    assert world.status["lastDecision"]["reason"] == "Request"
    world.settle()
    assert len(world.status["decisions"]) == 1


def test_a_short_start_is_one_write() -> None:
    """Asleep, then Awake: with the decision, its time and its Event, though no step in between was written."""
    world = World()
    world.settle()
    world.wish("w1")
    world.step()
    asked = format_micro_time(world.now_us)
    for stage in (Stage.SCHEDULED, Stage.RUNNING):
        world.pass_time(0.1)
        world.run_pods(stage)
        world.step()
    before = world.writes
    world.run_pods(Stage.READY)
    world.settle()
    assert world.writes == before + 1 and world.status["state"] == "Awake"
    assert world.status["lastDecision"]["time"] == asked and len(world.notices) == 1


def test_who_dies_with_a_step_untold_leaves_it_to_the_next() -> None:
    """The Deployment asks for a replica, the status for none, and the wish stands: it is one wake all the same."""
    world = World()
    world.settle()
    world.wish("w1")
    world.step()
    world.held = None
    world.pass_time(3)
    world.step()
    world.pass_time(0.5)
    world.settle()
    assert world.replicas == world.status["desiredReplicas"] == 1
    assert [item["to"] for item in world.status["decisions"]] == [1]


def test_the_states_of_a_start() -> None:
    """Each step of the pod is a state; steps that follow quickly are written as one."""
    world = World()
    world.settle()
    world.wish("w1")
    world.step()
    seen = []
    for stage in (Stage.SCHEDULED, Stage.RUNNING, Stage.READY):
        world.run_pods(stage)
        world.pass_time(1)
        world.step()
        seen.append(world.status["state"])
    assert seen == ["Pulling", "Loading", "Awake"]
    assert truth(world) == ["True", "True", "True", "False", "False"]
    quick = World()
    quick.settle()
    quick.pass_time(10)
    quick.wish("w1")
    quick.step()
    quick.run_pods(Stage.SCHEDULED)
    quick.pass_time(0.1)
    _, planned = quick.step()
    assert planned.status is None and planned.again_us == quick.now_us + 4 * SECOND // 10
    quick.run_pods(Stage.READY)
    quick.step()
    assert quick.status["state"] == "Awake", "what matters is not put off"


def test_in_a_rush_a_whole_wake_is_one_write() -> None:
    """Where many start at once, all that it changes waits for the others; a look at a calmer time ends that."""
    for calm in (False, True):
        world = World(rush_us=10 * SECOND)
        world.settle()
        world.wish("w1")
        before = world.writes
        world.step()
        since, asked = world.now_us, format_micro_time(world.now_us)
        for stage in (Stage.SCHEDULED, Stage.RUNNING, Stage.READY):
            world.pass_time(2)
            world.run_pods(stage)
            _, planned = world.step()
            assert planned.status is None and planned.again_us == since + 105 * SECOND // 10
        assert world.writes == before + 1, "the Deployment's replicas"
        world.pass_time(0.1 if calm else 4.5)
        world.rush_us = 0 if calm else world.rush_us
        world.settle()
        assert world.writes == before + 2 and world.status["state"] == "Awake"
        assert world.status["lastDecision"]["time"] == asked and len(world.notices) == 1


def test_in_a_rush_a_start_is_protected_later() -> None:
    """A budget is two more writes; one that is there stays."""
    world = World(rush_us=10 * SECOND)
    world.settle()
    world.wish("w1")
    world.step()
    world.run_pods(Stage.RUNNING)
    world.pass_time(19)
    world.step()
    assert Kind.POD_DISRUPTION_BUDGET not in world.children
    world.pass_time(2)
    world.step()
    world.rush_us = 30 * SECOND
    world.step()
    assert Kind.POD_DISRUPTION_BUDGET in world.children


def test_what_fails_in_a_rush_is_told_at_once() -> None:
    """Clients are answered by it."""
    world = World(rush_us=10 * SECOND)
    world.settle()
    world.wish("w1")
    world.step()
    world.spec(suspend=True)
    world.step()
    assert world.status["state"] == "Suspended"


def test_that_a_wish_was_heard_comes_along_with_what_follows() -> None:
    """Whoever waits has felt it; alone it is written half a second later, or five while the replica starts."""
    world = World()
    world.settle()
    world.load = replace(QUIET, held=1)
    world.step()
    world.pass_time(0.5)
    world.step()
    assert world.status["state"] == "Waking" and "handledWakeRequest" not in world.status
    world.wish("w1")
    _, planned = world.step()
    assert planned.status is None and planned.again_us == world.now_us + 5 * SECOND
    world.pass_time(1)
    world.run_pods(Stage.READY)
    world.step()
    assert world.status["state"] == "Awake" and world.status["handledWakeRequest"] == "w1"
    world.wish("w2")
    _, planned = world.step()
    assert planned.status is None and planned.again_us == world.now_us + SECOND // 2
    world.pass_time(0.5)
    world.step()
    assert world.status["handledWakeRequest"] == "w2" and world.replicas == 1


def test_idleness_drains_and_sleeps() -> None:
    """With the reason; the endpoint has served, and its last activity is told."""
    world = awake()
    world.load = replace(QUIET, last_activity_us=world.now_us, last_request_us=world.now_us)
    world.pass_time(5 * 60)
    world.step()
    assert world.replicas == 0 and world.status["state"] == "Draining"
    assert world.status["lastActivityTime"] == format_time(world.now_us - 5 * MINUTE)
    world.pods = ()
    world.settle()
    assert world.status["state"] == "Asleep" and world.condition("Ready")["reason"] == "ScaledToZero"
    before = world.writes
    world.load = replace(QUIET, last_activity_us=world.now_us, last_request_us=world.now_us)
    world.pass_time(3600)
    world.step()
    assert world.writes == before, "an endpoint that sleeps is not rewritten"


def test_activity_is_written_once_a_minute() -> None:
    """Not with every request."""
    world = awake()
    written = 0
    for _ in range(300):
        world.pass_time(1)
        world.load = replace(QUIET, last_activity_us=world.now_us, last_request_us=world.now_us, in_flight=1)
        before = world.writes
        world.step()
        written += world.writes - before
    assert 4 <= written <= 6


def test_what_keeps_awake_is_settled_soon_after_a_start() -> None:
    """Once: the request that woke the endpoint is over in seconds, and nobody should read of it for a minute."""
    world = awake()
    world.load = replace(QUIET, in_flight=1)
    world.pass_time(0.5)
    world.obj["metadata"]["annotations"] = {"zerotide.dev/wake-requested-at": "now"}
    world.settle()
    assert world.status["keptAwakeBy"] == "1 request in flight"
    world.load = replace(QUIET, last_activity_us=world.now_us, last_request_us=world.now_us)
    _, planned = world.step()
    assert planned.status is None and planned.again_us == world.now_us + 5 * SECOND
    world.pass_time(5)
    world.settle()
    assert world.status["keptAwakeBy"] == "the idle timeout"
    world.load = replace(QUIET, in_flight=2)
    _, planned = world.step()
    assert planned.status is None and planned.again_us == world.now_us + MINUTE


def test_five_decisions_are_remembered_the_newest_first() -> None:
    """And the newest once more by itself."""
    world = awake()
    for replicas in (3, 2, 4, 1, 5, 2):
        world.spec(scaling={"maxReplicas": 5, "pinnedReplicas": replicas})
        world.settle()
    decisions = world.status["decisions"]
    assert [(each["from"], each["to"]) for each in decisions] == [(5, 2), (1, 5), (4, 1), (2, 4), (3, 2)]
    assert world.status["lastDecision"] == decisions[0]


def test_an_annotation_wakes_once() -> None:
    """What was acted upon is no wish any more, once the endpoint sleeps again."""
    world = World()
    world.settle()
    world.obj["metadata"]["annotations"] = {"zerotide.dev/wake-requested-at": "now"}
    world.step()
    assert world.replicas == 1
    world.run_pods()
    world.settle()
    assert world.status["lastDecision"]["reason"] == "Annotation"
    world.now_us += 60 * MINUTE
    world.settle()
    world.pods = ()
    world.settle()
    assert world.replicas == 0 and world.status["handledAnnotations"] == {"wakeRequestedAt": "now"}
    world.obj["metadata"]["annotations"]["zerotide.dev/wake-requested-at"] = "later"
    world.step()
    assert world.replicas == 1


def test_a_sleep_wish_waits_for_requests() -> None:
    """It stays open while something is in flight, and is acted upon once."""
    world = awake()
    world.load = replace(QUIET, in_flight=1)
    world.obj["metadata"]["annotations"] = {"zerotide.dev/sleep-requested-at": "now"}
    world.step()
    assert world.replicas == 1 and "handledAnnotations" not in world.status
    world.load = QUIET
    world.step()
    assert world.replicas == 0 and world.status["handledAnnotations"] == {"sleepRequestedAt": "now"}


def test_a_sleep_wish_waits_for_a_floor_to_end() -> None:
    """It is not forgotten meanwhile."""
    world = World(load=replace(QUIET, last_activity_us=NOW))
    world.obj["spec"]["scaling"] = {"minReplicas": 1}
    world = awake(world)
    world.obj["metadata"]["annotations"] = {"zerotide.dev/sleep-requested-at": "now"}
    world.settle()
    assert world.replicas == 1 and "handledAnnotations" not in world.status
    world.spec(scaling={})
    world.step()
    assert world.replicas == 0 and world.status["handledAnnotations"] == {"sleepRequestedAt": "now"}
    assert world.status["lastDecision"]["reason"] == "SleepRequested"


def test_a_start_that_waits_for_a_token_says_so() -> None:
    """And what the engine answered instead, as far as it is about the container that runs."""
    world = World()
    world.settle()
    world.wish("w1")
    world.step()
    waits = "the replica answers, but is to generate a token first"
    said = "container c1 generated no token: POST /v1/completions: 404: none"
    for proof, message in (
        (Proof(container="c1"), "the replica loads the model"),
        (Proof(container="c1", due=True), waits),
        (Proof(message=said, container="c1", due=True), f"{waits}: {said}"),
        (Proof(message=said, container="c2", due=True), waits),
    ):
        world.run_pods(Stage.RUNNING, proof=proof)
        world.pass_time(1)
        world.settle()
        assert world.status["state"] == "Loading" and world.condition("Ready")["message"] == message
