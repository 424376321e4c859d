"""Who may be evicted: one replica of several, none of those that load for long."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.reconcile.helpers import NOW, endpoint, pod, raw
from tests.reconcile.world import QUIET, World, awake
from zerotide.api.scalars import SECOND
from zerotide.reconcile.child import Kind
from zerotide.reconcile.pdb import LONG_US, disruption_budget, protected_from
from zerotide.reconcile.pods import Stage

ONE, FEW = {"scaling": {"maxReplicas": 1}}, {"scaling": {"maxReplicas": 3}}


@pytest.mark.parametrize("protected", [False, True])
def test_one_replica_blocks_a_drain_only_while_it_loads(protected: bool) -> None:
    """Several leave one at a time, and none while one loads."""
    one, few = (disruption_budget(endpoint(spec), protected) for spec in (ONE, FEW))
    assert few is not None and few.object["spec"]["maxUnavailable"] == (0 if protected else 1)
    assert (one is None) is not protected
    # Without this a pod that is not ready yet could be evicted in spite of the budget.
    policy = few.object["spec"]["unhealthyPodEvictionPolicy"]
    assert policy == ("IfHealthyBudget" if protected else "AlwaysAllow")


def test_a_start_is_protected_once_it_takes_long() -> None:
    """From ten seconds after the first has its node; what serves, waits, crashed or cannot succeed is not."""
    at = NOW - 4 * SECOND
    loading = pod(Stage.RUNNING, scheduled_us=at, ready_us=None)
    younger = pod(Stage.SCHEDULED, scheduled_us=at + SECOND, ready_us=None)
    assert protected_from([younger, loading], False) == at + LONG_US
    assert protected_from([loading], True) is None
    waits = pod(Stage.UNSCHEDULABLE, scheduled_us=None)
    crashed = pod(Stage.RUNNING, scheduled_us=at, started_us=at, ready_us=at + 60 * SECOND)
    assert protected_from([waits, crashed, pod(Stage.READY, scheduled_us=at)], False) is None


def test_the_budget_comes_and_goes_with_a_long_start() -> None:
    """A short one has none; it is looked at when it becomes long."""
    world = World(obj=raw())
    world.settle()
    world.wish("w1")
    world.step()
    world.run_pods(Stage.RUNNING, ready_us=None)
    world.pass_time(1)
    world.settle()
    _, planned = world.step()
    assert Kind.POD_DISRUPTION_BUDGET not in world.children
    assert planned.again_us is not None and planned.again_us - world.now_us <= LONG_US
    world.pass_time(10)
    world.settle()
    assert world.children[Kind.POD_DISRUPTION_BUDGET]["spec"]["maxUnavailable"] == 0
    world.run_pods(Stage.READY)
    world.settle()
    assert Kind.POD_DISRUPTION_BUDGET not in world.children


def test_a_roll_out_that_cannot_succeed_blocks_no_drain() -> None:
    """Nobody gives it up while the old replica serves, so it would block them until somebody mends the spec."""
    world = awake(World(load=replace(QUIET, in_flight=1)))
    old = replace(world.pods[0], name="a-old", uid="old")
    world.spec(runtime={"image": "runtime:9"})
    world.step()
    world.run_pods(Stage.SCHEDULED)
    world.pods = (old, *world.pods)
    world.pass_time(11)
    world.settle()
    assert world.children[Kind.POD_DISRUPTION_BUDGET]["spec"]["maxUnavailable"] == 0, "it may succeed"
    (new,) = (each for each in world.pods if each.uid != "old")
    world.pods = (old, replace(new, waiting="InvalidImageName", waiting_message="bad"))
    world.settle()
    assert world.status["state"] == "Awake" and Kind.POD_DISRUPTION_BUDGET not in world.children
