"""What an endpoint waits for and who has it, for those who may know."""

from __future__ import annotations

from typing import Any

import pytest

from tests.reconcile.helpers import pod, raw
from tests.reconcile.world import World
from zerotide.api.accelerator_class import AcceleratorClassSpec
from zerotide.api.wording import listed
from zerotide.reconcile.devices import Device
from zerotide.reconcile.holders import Holders, holders, waits_for
from zerotide.reconcile.pods import Pod, Stage

GPU = "nvidia.com/gpu"
NODES: tuple[dict[str, Any], ...] = (
    {"status": {"allocatable": {GPU: "6", "cpu": "8"}}},
    {"status": {"allocatable": {GPU: "2"}}},
    {},
)


def holding(count: int, stage: Stage = Stage.READY, resource: str = GPU, **fields: Any) -> Pod:
    """Return a pod that asks for devices."""
    containers = [{"name": "model", "resources": {"limits": {resource: str(count), "cpu": "500m"}}}]
    return pod(stage, spec={"containers": containers}, **fields)


def test_who_has_a_node_holds_devices() -> None:
    """Until the pod is at its end, also while it leaves or loads; one that waits holds nothing."""
    pods = [
        ("demo/a", holding(2)),
        ("demo/a", holding(1, Stage.SCHEDULED)),
        ("demo/b", holding(4, leaving=True)),
        ("demo/c", holding(4, ended=True)),
        ("demo/d", holding(4, Stage.UNSCHEDULABLE)),
        ("x/e", holding(1, resource="amd.com/gpu")),
    ]
    assert holders(pods) == {GPU: {"demo/a": 3, "demo/b": 4}, "amd.com/gpu": {"x/e": 1}}


@pytest.mark.parametrize(
    ("held", "told"),
    [
        ({}, "no other endpoint holds any"),
        ({GPU: {"demo/me": 3}}, "no other endpoint holds any"),
        ({GPU: {"demo/b": 2, "demo/a": 4, "demo/me": 1}}, "endpoints hold 6: a 4 and b 2"),
        ({GPU: {"other/b": 2, "else/a": 4, "demo/c": 1}}, "endpoints hold 7: c 1 and 6 in other namespaces"),
        ({GPU: {"other/b": 2}}, "endpoints hold 2: 2 in other namespaces"),
        (
            {GPU: {f"demo/e{at}": 9 - at for at in range(7)}},
            "endpoints hold 42: e0 9, e1 8, e2 7, e3 6, e4 5 and 2 others of this namespace 7",
        ),
    ],
)
def test_what_is_told_of_it(held: Holders, told: str) -> None:
    """The largest first, only so many, and none of another namespace by name."""
    message = waits_for(Device("h100", 2), "demo/me", NODES, held)
    assert message == f"it waits for 2 × h100; of 8 {GPU} on all nodes {told}"


def test_what_no_node_has_and_what_is_no_device() -> None:
    """An autoscaler may bring it; without accelerators the scheduler's own words must do."""
    rare = Device("rare", 1, AcceleratorClassSpec(resource_name="amd.com/gpu"))
    assert waits_for(rare, "demo/me", NODES, {}) == "it waits for 1 × rare, and no node has amd.com/gpu yet"
    assert waits_for(None, "demo/me", NODES, {GPU: {"demo/a": 1}}) == ""
    odd = ({"status": {"allocatable": {GPU: "many"}}},)
    assert "no node has" in waits_for(Device(None, 1), "demo/me", odd, {})
    assert [listed(items) for items in (["a"], ["a", "b"], ["a", "b", "c"])] == ["a", "a and b", "a, b and c"]


def test_ready_tells_it_and_clients_are_not_told() -> None:
    """As long as it waits; what others hold is looked at again, and a change of it is one write."""
    world = World(obj=raw({"accelerator": {"count": 1}}), nodes=NODES, holders={GPU: {"demo/b": 8}})
    world.settle()
    world.wish("w1")
    world.step()
    world.run_pods(Stage.UNSCHEDULABLE, scheduled_us=None, unscheduled="0/2 nodes are available")
    world.pass_time(1)
    world.settle()
    assert world.status["state"] == "WaitingForCapacity"
    assert world.condition("Ready")["message"].endswith(
        "0/2 nodes are available; it waits for 1 × nvidia.com/gpu; of "
        "8 nvidia.com/gpu on all nodes endpoints hold 8: b 8"
    )
    before = world.writes
    world.holders = {GPU: {"demo/b": 4, "x/c": 4}}
    _, planned = world.step()
    assert planned.again_us is not None and planned.again_us - world.now_us <= 10_000_000
    world.settle()
    assert world.writes == before + 1 and "4 in other namespaces" in world.condition("Ready")["message"]
    world.pass_time(301)
    world.settle()
    assert world.condition("Accepting")["reason"] == "Unschedulable"
    assert "hold" not in world.condition("Accepting")["message"] and "hold" in world.condition("Ready")["message"]
    world.run_pods(Stage.READY)
    world.settle()
    assert world.condition("Ready")["message"] == "serving"
