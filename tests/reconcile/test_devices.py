"""Which accelerators a replica asks for, and when the next choice is taken."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.reconcile.helpers import CONFIG, NOW, endpoint, pod_object, raw, template
from tests.reconcile.world import QUIET, World, awake
from zerotide.api.accelerator_class import AcceleratorClassSpec, NamespaceSelector, PartOf, Toleration
from zerotide.api.conditions import Reason
from zerotide.reconcile.child import Kind
from zerotide.reconcile.devices import devices
from zerotide.reconcile.failures import ClassNotAllowed, SharedAccelerators, TooManyAccelerators
from zerotide.reconcile.pods import Stage, read
from zerotide.reconcile.rendering import render_all

H100 = AcceleratorClassSpec(
    max_count=8,
    node_selector={"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3"},
    tolerations=(Toleration(key="team", value="ml", effect="NoSchedule"),),
    runtime_class_name="nvidia",
)
SLICE = AcceleratorClassSpec(resource_name="nvidia.com/mig-1g.10gb")
CLASSES = {"h100": H100, "mig": SLICE}
WANTED = {"accelerator": {"className": "h100", "alternatives": [{"className": "a100", "count": 2}]}}


def node(**devices: str) -> dict[str, Any]:
    """Return a node that has so much of each resource, whose `/` is written `__`."""
    amounts = {name.replace("__", "/").replace("_", "."): amount for name, amount in devices.items()}
    return {"metadata": {"name": "n"}, "status": {"allocatable": {"cpu": "8", "memory": "64Gi", **amounts}}}


def test_a_class_says_how_its_devices_are_asked_for() -> None:
    """Resource, nodes, taints and runtime; the pod says which class it is billed as."""
    made = template(endpoint(WANTED), CONFIG, CLASSES)
    spec = made["spec"]
    assert made["metadata"]["labels"]["zerotide.dev/accelerator-class"] == "h100"
    assert spec["containers"][0]["resources"]["limits"] == {"nvidia.com/gpu": "1"}
    assert spec["nodeSelector"] == {"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3"}
    assert spec["runtimeClassName"] == "nvidia"
    assert spec["tolerations"] == [
        {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"},
        {"key": "team", "operator": "Equal", "value": "ml", "effect": "NoSchedule"},
    ]


def test_a_part_of_a_device_is_a_resource_of_its_own() -> None:
    """And its nodes' taint has that name."""
    spec = template(endpoint({"accelerator": {"className": "mig", "count": 2}}), CONFIG, CLASSES)["spec"]
    assert spec["containers"][0]["resources"]["requests"] == {"nvidia.com/mig-1g.10gb": "2"}
    assert spec["tolerations"][0]["key"] == "nvidia.com/mig-1g.10gb"


def test_a_name_without_a_class_is_that_of_a_price() -> None:
    """As before there were classes: any GPU will do."""
    spec = template(endpoint({"accelerator": {"className": "whatever"}}), CONFIG, CLASSES)["spec"]
    assert spec["containers"][0]["resources"]["limits"] == {"nvidia.com/gpu": "1"}
    assert "nodeSelector" not in spec


def test_more_than_a_node_has_is_refused() -> None:
    """No pod is made that could never run."""
    with pytest.raises(TooManyAccelerators, match="at most 8 of h100, not 9"):
        template(endpoint({"accelerator": {"className": "h100", "count": 9}}), CONFIG, CLASSES)


MINE = AcceleratorClassSpec(sharing="Partition", part_of=PartOf(class_name="h100", numerator=2, denominator=7))
TURN = AcceleratorClassSpec(sharing="TimeSlice", part_of=PartOf(class_name="l4", denominator=4))


def test_a_part_is_one_and_says_of_what(part: AcceleratorClassSpec = MINE) -> None:
    """The pod says how it is billed; a process sees no second one, so several are refused."""
    made = template(endpoint({"accelerator": {"className": "part"}}), CONFIG, {"part": part})
    assert made["metadata"]["annotations"]["zerotide.dev/accelerator-part"] == "2/7 h100"
    assert made["metadata"]["labels"]["zerotide.dev/accelerator-class"] == "part"
    for spec in (MINE, TURN, AcceleratorClassSpec(sharing="Partition")):
        with pytest.raises(SharedAccelerators, match="can use one part only, not 2"):
            template(endpoint({"accelerator": {"className": "part", "count": 2}}), CONFIG, {"part": spec})


@pytest.mark.parametrize(
    ("engine", "flag", "value"),
    [
        ("vllm", "--gpu-memory-utilization", "0.22"),
        ("sglang", "--mem-fraction-static", "0.21"),
        ("tgi", "--cuda-memory-fraction", "0.25"),
    ],
)
def test_engines_take_their_part_of_a_device_that_others_use_too(engine: str, flag: str, value: str) -> None:
    """By default each would take nearly all of it; a partition's memory is its own. The user's flags come last."""

    def arguments(spec: AcceleratorClassSpec, *own: str) -> list[str]:
        wanted = {"accelerator": {"className": "a"}, "runtime": {"engine": engine, "image": "x", "args": list(own)}}
        args: list[str] = template(endpoint(wanted), CONFIG, {"a": spec})["spec"]["containers"][0]["args"]
        return args

    made = arguments(TURN, flag, "0.5")
    assert made[made.index(flag) + 1] == value and made[-2:] == [flag, "0.5"]
    assert flag not in arguments(MINE) and flag not in arguments(H100)
    assert flag not in arguments(AcceleratorClassSpec(sharing="TimeSlice")), "nobody knows which part"


OURS = AcceleratorClassSpec(namespace_selector=NamespaceSelector(match_labels={"team": "ml", "tier": "1"}))


@pytest.mark.parametrize(
    ("spec", "labels", "open_"),
    [
        (H100, {}, True),
        (OURS, {"team": "ml", "tier": "1", "more": "x"}, True),
        (OURS, {"team": "ml"}, False),
        (OURS, {"team": "ml", "tier": "2"}, False),
        (AcceleratorClassSpec(namespace_selector=NamespaceSelector()), {}, True),
    ],
)
def test_a_class_is_for_the_namespaces_that_it_selects(
    spec: AcceleratorClassSpec, labels: dict[str, str], open_: bool
) -> None:
    """By all the labels that it names; one that names none is for everybody."""
    assert spec.open_to(labels) is open_


def test_what_is_not_for_a_namespace_is_refused_there() -> None:
    """With what to do about it, as soon as the endpoint is there; it is taken once the namespace has the label."""
    world = World(obj=raw({"accelerator": {"className": "ours"}}), classes={"ours": OURS})
    world.settle()
    ready = world.condition("Ready")
    assert (world.status["state"], ready["reason"]) == ("Failed", Reason.POD_REFUSED.value)
    assert "may not use ours" in ready["message"] and "namespaceSelector" in ready["message"]
    with pytest.raises(ClassNotAllowed, match="name another class"):
        template(endpoint({"accelerator": {"className": "ours"}}), CONFIG, {"ours": OURS})
    world.labels = {"team": "ml", "tier": "1"}
    world.settle()
    assert world.status["state"] == "Asleep"


def test_an_alternative_that_is_not_for_a_namespace_is_passed_over() -> None:
    """As one that no node could hold."""
    classes = {**CLASSES, "a100": OURS}
    spec = {"accelerator": {"className": "h100", "alternatives": [{"className": "a100"}, {"className": "mig"}]}}
    nodes = (node(nvidia_com__gpu="8", **{"nvidia_com__mig-1g_10gb": "7"}),)
    world = World(obj=raw(spec), classes=classes, nodes=nodes)
    world.settle()
    world.wish("w1")
    world.step()
    world.run_pods(Stage.UNSCHEDULABLE, scheduled_us=None, unscheduled="0/1 nodes are available")
    world.settle()
    world.pass_time(301)
    world.settle()
    assert asks_for(world) == "mig"


def test_what_a_class_says_does_not_roll_a_running_model() -> None:
    """It is part of the rendering, which waits for the next wake; alternatives are part of neither."""
    one, two = endpoint({"accelerator": {"className": "h100"}}), endpoint(WANTED)
    (plain,) = render_all(one, CONFIG, devices(one, {}))
    first, second = render_all(two, CONFIG, devices(two, CLASSES))
    assert plain.spec_digest == first.spec_digest and plain.digest != first.digest
    assert second.spec_digest != first.spec_digest


def asks_for(world: World) -> str:
    """Return the class that the Deployment's pods ask for."""
    labels = world.children[Kind.DEPLOYMENT]["spec"]["template"]["metadata"]["labels"]
    return str(labels["zerotide.dev/accelerator-class"])


def woken(**spec: Any) -> World:
    """Return a world that was woken, and whose replica finds no room."""
    world = World(obj=raw({**WANTED, **spec}), classes=CLASSES, nodes=(node(nvidia_com__gpu="8"),))
    world.settle()
    world.wish("w1")
    world.step()
    world.run_pods(Stage.UNSCHEDULABLE, scheduled_us=None, unscheduled="0/1 nodes are available")
    world.settle()
    return world


def test_the_next_choice_is_taken_once_the_first_could_not_be_had() -> None:
    """After start.capacityTimeout, at the time that was named, without a word of failure to those who wait."""
    world = woken()
    assert asks_for(world) == "h100" and world.status["accelerator"]["summary"] == "1 × h100"
    world.pass_time(299)
    _, planned = world.step()
    assert asks_for(world) == "h100"
    assert planned.again_us is not None and planned.again_us - world.now_us <= 1_000_000
    world.pass_time(1)
    world.settle()
    assert asks_for(world) == "a100"
    assert world.status["accelerator"] == {"className": "a100", "count": 2, "summary": "2 × a100"}
    assert world.condition("Ready")["status"] == "True"
    world.run_pods(Stage.UNSCHEDULABLE, scheduled_us=None, unscheduled="0/1 nodes are available")
    world.pass_time(400)
    world.settle()
    assert asks_for(world) == "a100", "the last one is kept"
    assert world.condition("Ready")["reason"] == Reason.UNSCHEDULABLE.value


def test_a_replica_that_got_a_node_keeps_its_choice() -> None:
    """However long it takes to load, and after it serves."""
    world = woken()
    world.run_pods(Stage.SCHEDULED)
    world.pass_time(600)
    world.settle()
    assert asks_for(world) == "h100"


def test_an_alternative_serves_until_it_sleeps_and_the_first_choice_is_tried_again() -> None:
    """Also after a restart: the Deployment says which choice it is."""
    world = woken()
    world.pass_time(300)
    world.settle()
    world.run_pods()
    world.settle()
    assert asks_for(world) == "a100" and world.status["state"] == "Awake"
    world.pass_time(400)
    world.settle()
    assert world.replicas == 0
    world.pods = ()
    world.settle()
    assert asks_for(world) == "h100" and world.status["state"] == "Asleep"


def test_what_no_node_could_ever_hold_is_passed_over_at_once() -> None:
    """Two per node are needed of the first, and nodes have one."""
    spec = {"accelerator": {"className": "x", "count": 2, "alternatives": [{"className": "y"}]}}
    world = World(obj=raw(spec), nodes=(node(nvidia_com__gpu="1"),))
    world.settle()
    world.wish("w1")
    world.step()
    world.settle()
    assert asks_for(world) == "y"


def test_a_choice_whose_nodes_come_on_demand_is_not_passed_over() -> None:
    """No present node could hold it, and yet it has its time like any other."""
    spec = {"accelerator": {"className": "x", "alternatives": [{"className": "y"}]}}
    classes = {"x": AcceleratorClassSpec(resource_name="amd.com/gpu", provisioning="OnDemand")}
    world = World(obj=raw(spec), classes=classes, nodes=(node(nvidia_com__gpu="1"),))
    world.settle()
    world.wish("w1")
    world.step()
    for seconds, taken in ((299, "x"), (1, "y")):
        world.run_pods(Stage.UNSCHEDULABLE, scheduled_us=None, unscheduled="0/1 nodes are available")
        world.pods = tuple(replace(each, created_us=NOW) for each in world.pods)
        world.settle()
        world.pass_time(seconds)
        world.settle()
        assert asks_for(world) == taken


def test_an_earlier_choice_is_taken_where_the_present_one_cannot_be_had_any_more() -> None:
    """The nodes of the last one are gone for good, and those of the first are back."""
    spec = {"accelerator": {"className": "h100", "alternatives": [{"className": "mig"}]}}
    world = World(obj=raw(spec), classes=CLASSES, nodes=(node(**{"nvidia_com__mig-1g_10gb": "7"}),))
    world.settle()
    world.wish("w1")
    world.step()
    world.settle()
    world.run_pods(Stage.UNSCHEDULABLE, scheduled_us=None, unscheduled="0/1 nodes are available")
    world.settle()
    assert asks_for(world) == "mig"
    world.nodes = (node(nvidia_com__gpu="1"),)
    world.settle()
    assert asks_for(world) == "h100"


def test_nodes_that_come_on_demand_are_waited_for() -> None:
    """No present node could hold the replica, and yet it is not hopeless."""
    classes = {"h100": AcceleratorClassSpec(provisioning="OnDemand")}
    world = World(obj=raw({"accelerator": {"className": "h100"}}), classes=classes, nodes=(node(),))
    world.settle()
    world.wish("w1")
    world.step()
    world.run_pods(Stage.UNSCHEDULABLE, scheduled_us=None, unscheduled="0/1 nodes are available")
    world.settle()
    assert world.status["state"] == "WaitingForCapacity" and world.condition("Ready")["status"] == "True"
    world.classes = {}
    world.settle()
    assert world.condition("Ready")["reason"] == Reason.NEVER_SCHEDULABLE.value


def test_alternatives_that_are_added_roll_nothing() -> None:
    """A running model has what it needs."""
    world = awake(World(obj=raw({"accelerator": {"className": "h100"}}), classes=CLASSES))
    before = world.children[Kind.DEPLOYMENT]["spec"]["template"]["metadata"]["annotations"]
    world.spec(**WANTED)
    world.settle()
    after = world.children[Kind.DEPLOYMENT]["spec"]["template"]["metadata"]["annotations"]
    assert before == after and world.status["state"] == "Awake"


def rolling(*served: str) -> World:
    """Return a world whose endpoint serves on the last of these classes, and whose new spec finds no room on any."""
    nodes = (node(nvidia_com__gpu="8"),)
    world = World(obj=raw(WANTED), classes=CLASSES, nodes=nodes, load=replace(QUIET, in_flight=1))
    world.settle()
    world.wish("w1")
    world.step()
    for _ in served[1:]:
        world.run_pods(Stage.UNSCHEDULABLE, scheduled_us=None, unscheduled="0/1 nodes are available")
        world.settle()
        world.pass_time(300)
        world.settle()
    assert asks_for(world) == served[-1]
    world.run_pods()
    world.step()
    world.settle()
    assert world.status["state"] == "Awake"
    old = replace(world.pods[0], name="a-old", uid="old")
    world.spec(runtime={"image": "runtime:9"})
    world.step()
    for _ in served:
        world.run_pods(Stage.UNSCHEDULABLE, scheduled_us=None, unscheduled="0/1 nodes are available")
        world.pods = (old, *world.pods)
        world.settle()
        world.pass_time(300)
        world.settle()
    return world


@pytest.mark.parametrize("served", [("h100",), ("h100", "a100")], ids="-".join)
def test_a_roll_out_without_room_takes_the_place_of_the_old_replica(served: tuple[str, ...]) -> None:
    """On what that runs on: an alternative without room would leave the endpoint with neither."""
    world = rolling(*served)
    assert asks_for(world) == served[-1]
    strategy = world.children[Kind.DEPLOYMENT]["spec"]["strategy"]["rollingUpdate"]
    assert strategy == {"maxSurge": 0, "maxUnavailable": 1}


def test_who_waits_for_the_place_of_an_old_replica_waits_from_its_end_on() -> None:
    """Requests are held while it ends its own, and until start.capacityTimeout after it stopped to serve."""
    world = rolling("h100")
    old, new = world.pods
    for pods, seconds in (((replace(old, leaving=True), new), 200), ((new,), 99)):
        world.pods = pods
        world.settle()
        assert world.status["state"] == "WaitingForCapacity" and world.condition("Accepting")["status"] == "True"
        world.pass_time(seconds)
        world.settle()
        assert asks_for(world) == "h100" and world.condition("Accepting")["status"] == "True"
    _, planned = world.step()
    assert planned.again_us is not None and planned.again_us - world.now_us <= 1_000_000
    world.pass_time(1)
    world.settle()
    assert asks_for(world) == "a100", "nobody makes room any more"


def draining(seconds: int) -> World:
    """Return an endpoint whose old replica has so long to end its requests, while the new one waits for its room."""
    world = rolling("h100")
    old, new = world.pods
    world.pods = (replace(old, leaving=True, ends_us=world.now_us + seconds * 1_000_000), new)
    world.settle()
    return world


def takes_the_next_after(world: World, seconds: int) -> None:
    """Assert that it asks for its first choice, and takes requests, until so many seconds are over, and no longer."""
    world.pass_time(seconds - 1)
    world.settle()
    assert asks_for(world) == "h100" and world.condition("Accepting")["status"] == "True"
    world.pass_time(1)
    world.settle()
    assert asks_for(world) == "a100"


def test_while_an_old_replica_drains_nobody_has_waited_in_vain() -> None:
    """However long its last requests take: start.capacityTimeout begins when its room is free."""
    world = draining(900)
    for seconds in (301, 301, 290):
        world.pass_time(seconds)
        world.settle()
        assert asks_for(world) == "h100"
        assert world.status["state"] == "WaitingForCapacity" and world.condition("Accepting")["status"] == "True"
    world.pods, world.freed_us = world.pods[1:], world.now_us
    world.settle()
    takes_the_next_after(world, 300)


def test_a_replica_that_does_not_end_in_its_time_is_waited_for_no_longer() -> None:
    """Its node is lost, and nothing will tell so."""
    world = draining(400)
    _, planned = world.step()
    assert planned.again_us is not None and planned.again_us - world.now_us <= 400_000_000
    takes_the_next_after(world, 400)


def test_pods_say_of_which_class_they_are() -> None:
    """By the label that they are billed by."""
    assert read(pod_object(labels={"zerotide.dev/accelerator-class": "h100"})).class_name == "h100"
    assert read(pod_object()).class_name == ""
