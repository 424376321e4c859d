"""Plans: what an endpoint comes to in each situation, and that doing what a plan says is enough."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.reconcile.helpers import CONFIG, NOW, raw
from tests.reconcile.world import QUIET, World, awake, truth
from zerotide.api.scalars import SECOND
from zerotide.reconcile.child import Kind
from zerotide.reconcile.pods import Stage
from zerotide.reconcile.steer import Apply, Scale
from zerotide.scaling.demand import Load


def test_a_new_endpoint_sleeps_and_is_healthy() -> None:
    """All children in two rounds, then silence."""
    world = World()
    assert world.settle() <= 2
    assert set(world.children) == set(Kind) - {Kind.POD_DISRUPTION_BUDGET}
    assert world.status["state"] == "Asleep" and world.replicas == 0
    assert truth(world) == ["True", "True", "False", "False", "False"]
    assert world.condition("Ready")["reason"] == "NeverServed"
    assert world.status["selector"] == "zerotide.dev/endpoint=a" and world.status["url"] == "http://a.demo.svc"


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
    world.run_pods()
    world.settle()
    kept = world.children[Kind.DEPLOYMENT]["spec"]["strategy"]["rollingUpdate"]
    assert kept == rolling and world.status["state"] == "Awake", "nothing is written that nobody needs"


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


@pytest.mark.parametrize("labelled", [True, False])
def test_a_foreign_service_gets_no_slice(labelled: bool) -> None:
    """It would lead that Service's requests to the activators; one of ours from before goes."""
    world = World()
    world.settle()
    del world.children[Kind.SERVICE]
    if labelled:
        world.children[Kind.SERVICE] = {"metadata": {"name": "a", "uid": "x", "labels": {}}, "spec": {}}
    else:
        world.conflicts = frozenset({Kind.SERVICE})
    world.settle()
    assert Kind.ENDPOINT_SLICE not in world.children
    assert world.condition("Ready")["reason"] == "NameConflict"
    world.children.pop(Kind.SERVICE, None)
    world.conflicts = frozenset()
    world.settle()
    assert {Kind.SERVICE, Kind.ENDPOINT_SLICE} <= set(world.children) and world.status["state"] == "Asleep"


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
