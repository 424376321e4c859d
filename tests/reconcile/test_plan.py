"""Plans: what an endpoint comes to in each situation, and that doing what a plan says is enough."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.reconcile.helpers import CONFIG, NOW, raw
from tests.reconcile.world import QUIET, World
from zerotide.api.scalars import MINUTE, SECOND, format_micro_time, format_time
from zerotide.reconcile.child import Kind
from zerotide.reconcile.pods import Exit, Stage
from zerotide.reconcile.steer import Apply, Scale
from zerotide.scaling.demand import Load


def truth(world: World) -> list[str]:
    """Return the statuses of the five conditions."""
    return [world.condition(t)["status"] for t in ("Ready", "Accepting", "Serving", "Reconciling", "Stalled")]


def awake(world: World | None = None) -> World:
    """Return a world whose endpoint serves."""
    world = world or World()
    world.settle()
    world.wish("w1")
    world.step()
    world.run_pods()
    world.step()
    world.settle()
    assert world.status["state"] == "Awake"
    return world


def test_a_new_endpoint_sleeps_and_is_healthy() -> None:
    """All children in two rounds, then silence."""
    world = World()
    assert world.settle() <= 2
    assert set(world.children) == set(Kind) - {Kind.POD_DISRUPTION_BUDGET}
    assert world.status["state"] == "Asleep" and world.replicas == 0
    assert truth(world) == ["True", "True", "False", "False", "False"]
    assert world.condition("Ready")["reason"] == "NeverServed"
    assert world.status["selector"] == "zerotide.dev/endpoint=a" and world.status["url"] == "http://a.demo.svc"


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


def test_drift_is_mended_and_foreign_fields_stay() -> None:
    """Only the fields that differ are ours to name."""
    world = awake()
    live = world.children[Kind.DEPLOYMENT]
    live["spec"]["template"]["spec"]["containers"].append({"name": "side", "image": "s"})
    live["metadata"]["annotations"]["theirs"] = "1"
    assert world.settle() == 0
    live["spec"]["template"]["spec"]["containers"][0]["image"] = "other"
    steering, _ = world.look()
    assert isinstance(steering.move, Apply) and steering.move.drift.endswith("containers[model].image")
    world.settle()
    names = [item["name"] for item in world.children[Kind.DEPLOYMENT]["spec"]["template"]["spec"]["containers"]]
    assert names == ["model", "side"]
    world.children[Kind.DEPLOYMENT]["spec"]["replicas"] = 5
    world.settle()
    assert world.replicas == 1, "one writer of replicas"


def test_an_upgrade_waits_for_the_next_wake() -> None:
    """A running model is left alone, its replicas are not."""
    world = awake()
    world.config = replace(CONFIG, images={"zerotide": "runtime:2"})
    assert world.settle() == 0
    world.children[Kind.DEPLOYMENT]["spec"]["replicas"] = 3
    steering, _ = world.look()
    assert isinstance(steering.move, Scale)
    world.settle()
    world.load = QUIET
    world.pass_time(600)
    world.step()
    world.pods = ()
    assert world.settle() <= 2 and world.replicas == 0
    assert image(world) == "runtime:1", "nor is an endpoint that sleeps rewritten"
    world.wish("w2")
    steering, _ = world.look()
    assert isinstance(steering.move, Apply), "the template and the replicas in one go"
    world.step()
    assert image(world) == "runtime:2" and world.replicas == 1


def image(world: World) -> str:
    """Return the image of the model's container."""
    found: str = world.children[Kind.DEPLOYMENT]["spec"]["template"]["spec"]["containers"][0]["image"]
    return found


def test_a_new_spec_rolls_out_beside_the_old() -> None:
    """The old replica serves meanwhile; where none serves, the new one takes its place."""
    world = awake()
    world.spec(runtime={"image": "runtime:9"})
    steering, _ = world.step()
    assert isinstance(steering.move, Apply)
    strategy = world.children[Kind.DEPLOYMENT]["spec"]["strategy"]
    assert strategy["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
    assert world.status["state"] == "Awake" and world.condition("Reconciling")["reason"] == "RollingOut"
    failing = World()
    failing.settle()
    failing.wish("w1")
    failing.step()
    failing.run_pods(Stage.RUNNING)
    failing.children[Kind.DEPLOYMENT]["status"] = {"replicas": 1}
    failing.spec(runtime={"image": "runtime:9"})
    failing.step()
    strategy = failing.children[Kind.DEPLOYMENT]["spec"]["strategy"]
    assert strategy["rollingUpdate"] == {"maxSurge": 0, "maxUnavailable": 1}


def test_a_roll_out_that_finds_no_room_beside_the_old_replica_takes_its_place() -> None:
    """After start.capacityTimeout: where accelerators are short, two replicas at a time may never fit."""
    world = awake()
    old = replace(world.pods[0], name="a-old", uid="old")
    world.spec(runtime={"image": "runtime:9"})
    world.step()
    world.run_pods(Stage.UNSCHEDULABLE, unscheduled="Insufficient nvidia.com/gpu")
    world.pods = (old, *world.pods)
    assert world.settle() <= 2
    rolling = world.children[Kind.DEPLOYMENT]["spec"]["strategy"]["rollingUpdate"]
    assert rolling == {"maxSurge": 1, "maxUnavailable": 0} and world.status["state"] == "Awake"
    world.load = replace(QUIET, in_flight=1)
    world.pass_time(5 * 60)
    world.settle()
    rolling = world.children[Kind.DEPLOYMENT]["spec"]["strategy"]["rollingUpdate"]
    assert rolling == {"maxSurge": 0, "maxUnavailable": 1}


def test_a_spec_that_makes_no_pod_fails_without_a_deployment() -> None:
    """It is told in the conditions; a mended one goes on. A model that serves goes on serving meanwhile."""
    world = World(obj=raw({"podTemplate": {"spec": {"hostPID": True}}}))
    world.settle()
    assert Kind.DEPLOYMENT not in world.children
    assert world.status["state"] == "Failed" and truth(world) == ["False", "False", "False", "False", "True"]
    assert world.condition("Ready")["reason"] == "PodRefused"
    assert [warning.reason for warning in world.warnings.values()] == ["PodRefused"]
    world.obj["spec"].pop("podTemplate")
    world.spec()
    world.settle()
    assert world.status["state"] == "Asleep" and world.replicas == 0
    serving = awake()
    serving.spec(podTemplate={"spec": {"hostPID": True}})
    serving.settle()
    assert serving.status["state"] == "Awake" and serving.replicas == 1
    assert "hostPID" in serving.condition("Ready")["message"]
    assert [warning.reason for warning in serving.warnings.values()] == ["PodRefused"]


@pytest.mark.parametrize("kind", list(Kind))
def test_a_foreign_object_is_never_touched(kind: Kind) -> None:
    """It is named, and neither a wish nor demand starts a pod beside it."""
    foreign = {"metadata": {"name": "a", "uid": "x", "labels": {}}, "spec": {"replicas": 3}}
    world = World(obj=raw({"scaling": {"maxReplicas": 2}}), children={kind: foreign})
    world.settle()
    assert world.status["state"] == "Failed" and world.condition("Ready")["reason"] == "NameConflict"
    assert kind.value in world.condition("Ready")["message"]
    world.wish("w1")
    world.load = replace(QUIET, held=3)
    world.settle()
    assert world.children[kind] is foreign and world.status["desiredReplicas"] == 0
    assert world.status["handledWakeRequest"] == "w1"


def test_a_predecessors_children_are_waited_for() -> None:
    """They are neither touched nor told as a conflict: the garbage collector is on its way."""
    reference = {
        "apiVersion": "zerotide.dev/v1alpha1",
        "kind": "InferenceEndpoint",
        "name": "a",
        "uid": "old",
        "controller": True,
    }
    old = {"metadata": {"name": "a", "uid": "x", "ownerReferences": [reference]}, "spec": {"replicas": 1}}
    world = World(children={Kind.DEPLOYMENT: old})
    _, planned = world.step()
    assert world.children[Kind.DEPLOYMENT] is old and planned.again_us == NOW + 300_000
    assert world.status["state"] == "Asleep"
    del world.children[Kind.DEPLOYMENT]
    world.settle()
    assert world.replicas == 0


def failing(reason_fields: dict[str, Any] | None = None) -> World:
    """Return a world whose start is in a crash loop."""
    world = World()
    world.settle()
    world.wish("w1")
    world.step()
    fields = reason_fields or {"waiting": "CrashLoopBackOff", "restarts": 2, "exit": Exit("Error", 1, "boom")}
    world.run_pods(Stage.SCHEDULED, **fields)
    world.pass_time(1)
    world.step()
    return world


def test_a_hopeless_start_is_told_given_up_and_backs_off() -> None:
    """Kubernetes tries on for the idle timeout; then the pods go, and the next start waits."""
    world = failing()
    assert world.status["state"] == "Failed" and truth(world) == ["False", "False", "False", "False", "True"]
    assert world.condition("Accepting")["reason"] == "CrashLooping"
    assert world.status["failedStarts"]["count"] == 1 and world.replicas == 1
    world.settle()
    world.pass_time(301)
    world.step()
    assert world.replicas == 0 and world.condition("Accepting")["reason"] == "StartBackoff"
    retry = world.status["failedStarts"]["retryTime"]
    assert retry == format_time(world.now_us + 30 * SECOND) and retry in world.condition("Accepting")["message"]
    assert world.status["lastDecision"]["reason"] == "StartFailed"
    world.pods = ()
    world.wish("w2")
    world.settle()
    assert world.replicas == 0 and world.status["handledWakeRequest"] == "w2"
    _, planned = world.look()
    assert planned.again_us == world.now_us + 30 * SECOND
    world.pass_time(30)
    world.settle()
    assert world.status["state"] == "Asleep" and truth(world)[1] == "True"
    world.wish("w3")
    world.step()
    assert world.replicas == 1
    world.run_pods(Stage.SCHEDULED, waiting="CrashLoopBackOff", restarts=2, exit=Exit("Error", 1, "boom"))
    world.pass_time(1)
    world.step()
    assert world.status["failedStarts"]["count"] == 2
    world.pass_time(301)
    world.step()
    assert world.status["failedStarts"]["retryTime"] == format_time(world.now_us + 60 * SECOND)


def test_too_many_failures_end_a_start_at_once() -> None:
    """But for a second, in which clients learn the reason."""
    world = World(obj=raw({"start": {"maxFailures": 1}}))
    world.settle()
    world.wish("w1")
    world.step()
    world.run_pods(Stage.SCHEDULED, waiting="InvalidImageName", waiting_message="bad")
    world.step()
    assert world.condition("Accepting")["reason"] == "ImagePullFailed" and world.replicas == 1
    world.pass_time(2)
    world.step()
    assert world.replicas == 0 and world.condition("Accepting")["reason"] == "StartBackoff"


def test_success_and_a_new_spec_end_a_failure_at_once() -> None:
    """A pod that comes up after all; a spec that was mended, even while starts back off; a person's wish."""
    world = failing()
    world.run_pods(Stage.READY)
    world.step()
    assert world.status["state"] == "Awake" and "failedStarts" not in world.status
    mended = failing()
    mended.pass_time(301)
    mended.step()
    mended.pods = ()
    mended.spec(runtime={"image": "runtime:9"})
    mended.settle()
    assert mended.status["state"] == "Asleep" and "failedStarts" not in mended.status
    wished = failing()
    wished.pass_time(301)
    wished.step()
    wished.pods = ()
    wished.obj["metadata"]["annotations"] = {"zerotide.dev/wake-requested-at": "now"}
    wished.step()
    assert wished.replicas == 1 and wished.status["lastDecision"]["reason"] == "Annotation"


def test_a_failure_survives_the_operator() -> None:
    """Nothing of it is in memory: the same objects lead to the same plan."""
    world = failing()
    copy = World(obj=world.obj, children=world.children, pods=world.pods, now_us=world.now_us)
    copy.settle()
    assert copy.status["failedStarts"]["count"] == 1
    copy.pass_time(301)
    copy.step()
    assert copy.replicas == 0


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


def test_children_that_are_not_wanted_any_more_go() -> None:
    """The budget of several replicas, the ServiceAccount where another is named."""
    world = World(obj=raw({"scaling": {"maxReplicas": 2}}))
    world.settle()
    assert Kind.POD_DISRUPTION_BUDGET in world.children and Kind.SERVICE_ACCOUNT in world.children
    world.spec(scaling={}, runtime={"serviceAccountName": "theirs"})
    world.settle()
    assert Kind.POD_DISRUPTION_BUDGET not in world.children and Kind.SERVICE_ACCOUNT not in world.children


def test_the_slice_follows_the_activators() -> None:
    """In a stable order, and empty where there is none."""
    world = World(activators=("10.0.0.2", "10.0.0.1"))
    world.settle()
    found = world.children[Kind.ENDPOINT_SLICE]["endpoints"]
    assert [item["addresses"] for item in found] == [["10.0.0.1"], ["10.0.0.2"]]
    world.activators = ("10.0.0.1", "10.0.0.2")
    assert world.settle() == 0
    world.activators = ()
    world.settle()
    assert world.children[Kind.ENDPOINT_SLICE]["endpoints"] == []
    world.activators = ("fd00::1",)
    world.settle()
    found = world.children[Kind.ENDPOINT_SLICE]
    assert (found["addressType"], found["endpoints"][0]["addresses"]) == ("IPv6", ["fd00::1"])
    world.activators = ()
    world.settle()
    assert world.children[Kind.ENDPOINT_SLICE]["addressType"] == "IPv6"


def test_suspension_takes_the_pods_and_refuses() -> None:
    """And ends as asleep."""
    world = awake()
    world.spec(suspend=True)
    world.settle()
    assert world.replicas == 0 and world.status["state"] == "Suspended"
    assert truth(world) == ["True", "False", "False", "False", "False"]
    world.pods = ()
    world.spec(suspend=False)
    world.settle()
    assert world.status["state"] == "Asleep"


specs = st.fixed_dictionaries(
    {},
    optional={
        "scaling": st.fixed_dictionaries(
            {"maxReplicas": st.integers(2, 4)},
            optional={"minReplicas": st.integers(0, 2), "pinnedReplicas": st.integers(0, 2)},
        ),
        "suspend": st.booleans(),
        "accelerator": st.fixed_dictionaries({"count": st.integers(1, 8)}),
        "runtime": st.sampled_from(
            [{"engine": "vllm"}, {"engine": "tgi"}, {"serviceAccountName": "x"}, {"args": ["--y"]}]
        ),
        "model": st.sampled_from(
            [
                {"uri": "hf://a/b@c"},
                {"uri": "pvc://w/x"},
                {"uri": "file:///x"},
                {"uri": "image:///m", "secretRef": {"name": "s"}},
            ]
        ),
        "podTemplate": st.sampled_from(
            [{"spec": {"hostPID": True}}, {"spec": {"containers": [{"name": "s", "image": "i"}]}}]
        ),
    },
)
stages = st.sampled_from(list(Stage))
loads = st.builds(
    Load,
    held=st.integers(0, 20),
    in_flight=st.integers(0, 20),
    last_activity_us=st.integers(NOW - 600 * SECOND, NOW),
    reported_us=st.sampled_from([0, NOW * 2]),
    missing=st.sampled_from([(), ("act-1",)]),
)


@settings(deadline=None)
@given(
    spec=specs,
    events=st.lists(
        st.one_of(
            st.tuples(st.just("load"), loads),
            st.tuples(st.just("pods"), stages),
            st.tuples(st.just("wish"), st.sampled_from(["w1", "w2", "w3"])),
            st.tuples(st.just("time"), st.sampled_from([0.2, 1.0, 31.0, 400.0])),
            st.tuples(st.just("spec"), specs),
        ),
        max_size=8,
    ),
)
def test_doing_what_a_plan_says_is_enough(spec: dict[str, Any], events: list[tuple[str, Any]]) -> None:
    """From any state a few rounds come to rest, the same input gives the same plan, and replicas keep their bounds."""
    world = World(obj=raw(spec))
    world.settle()
    for kind, value in events:
        match kind:
            case "load":
                world.load = value
            case "pods" if Kind.DEPLOYMENT in world.children:
                world.run_pods(value)
            case "wish":
                world.wish(value)
            case "time":
                world.pass_time(value)
            case "spec":
                world.obj["spec"] = {"model": {"uri": "image:///m"}}
                world.spec(**value)
            case "restart":
                world.held = None
        first, second = world.look(), world.look()
        assert first == second, "planning is a function"
        again = first[1].again_us
        assert again is None or again > world.now_us, "a time that has passed would make it spin"
        world.settle()
        world.pass_time(0.6)
        world.settle()
        scaling = world.obj["spec"].get("scaling", {})
        desired = world.status["desiredReplicas"]
        assert 0 <= desired <= max(scaling.get("maxReplicas", 1), scaling.get("pinnedReplicas", 0), 1)
        if world.obj["spec"].get("suspend"):
            assert desired == 0
        if Kind.DEPLOYMENT in world.children:
            assert world.replicas == desired
