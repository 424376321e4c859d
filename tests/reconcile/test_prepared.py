"""What is worked out for a sleeping endpoint's wake is what a look would decide, once somebody calls."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tests.reconcile.helpers import NOW, raw
from tests.reconcile.world import QUIET, World, awake
from zerotide.api.names import ANNOTATION_RENDERED_DIGEST
from zerotide.api.scalars import SECOND
from zerotide.reconcile.child import Kind
from zerotide.reconcile.observed import Withheld
from zerotide.reconcile.pods import Stage
from zerotide.reconcile.prepared import Prepared, prepared
from zerotide.reconcile.steer import Create, Scale

Object = dict[str, Any]
MORNING: Object = {"name": "s", "start": "0 9 * * *", "duration": "1h", "timeZone": "UTC", "minReplicas": 1}

scalings = st.fixed_dictionaries(
    {"maxReplicas": st.integers(1, 5)},
    optional={
        "concurrency": st.builds(lambda target: {"target": target}, st.integers(1, 9)),
        "queueDelay": st.just({"target": "1s"}),
        "minReplicas": st.integers(0, 1),
        "pinnedReplicas": st.just(1),
        "idle": st.sampled_from([{"timeout": "10s"}, {"policy": "Learned"}]),
        "schedules": st.just([MORNING]),
    },
)
specs = st.fixed_dictionaries(
    {"scaling": scalings},
    optional={
        "suspend": st.booleans(),
        "start": st.sampled_from([{"verify": "OnChange"}, {"maxFailures": 1}]),
        "accelerator": st.sampled_from([{"count": 1}, {"count": 2}]),
    },
)


def worked_out(world: World) -> Prepared | None:
    """Carry out one look, and return what it works out."""
    steering, _ = world.step()
    observed, rendering = world.seen
    return prepared(observed, rendering, steering, world.children.get(Kind.DEPLOYMENT), world.now_us)


def slept(spec: Object, *, failed: bool, before: bool) -> World:
    """Return a world that was woken `before`, perhaps in vain, or never."""
    world = World(raw({"runtime": {"engine": "custom", "image": "localhost/one:1"}, **spec}))
    world.settle()
    if before and not world.replicas and not spec.get("suspend"):
        world.wish("w1")
        world.step()
        if failed:
            world.run_pods(Stage.RUNNING, ready_us=None, restarts=9)
            world.pass_time(1000.0)
        else:
            world.run_pods()
        world.step()
        world.pass_time(4000.0)
        world.step()
        if world.status["desiredReplicas"] == 0:
            world.pods = ()
    return world


@given(
    spec=specs,
    failed=st.booleans(),
    before=st.booleans(),
    withheld=st.booleans(),
    in_flight=st.integers(0, 3),
    held=st.integers(1, 60),
    later=st.floats(0, 100_000),
)
def test_it_is_what_a_look_would_write(
    spec: Object, failed: bool, before: bool, withheld: bool, in_flight: int, held: int, later: float
) -> None:
    """Until time alone calls for a look, and for no more requests than it is said to hold for."""
    world = slept(spec, failed=failed, before=before)
    world.withheld = Withheld("a budget is used up", None) if withheld else None
    ready = worked_out(world)
    again_us = world.step()[1].again_us
    assume(ready is not None and held + in_flight <= ready.most)
    if again_us is None or world.now_us + later * SECOND < again_us:
        world.now_us += int(later * SECOND)
    world.load = replace(QUIET, held=held, in_flight=in_flight, reported_us=world.now_us)
    assert ready is not None and world.look()[0].move == ready.scale


@given(spec=specs, withheld=st.booleans(), held=st.integers(1, 60))
def test_whoever_a_request_would_not_wake_by_scaling_is_not_prepared(spec: Object, withheld: bool, held: int) -> None:
    """And whoever it would is."""
    world = slept(spec, failed=False, before=False)
    world.withheld = Withheld("a budget is used up", None) if withheld else None
    ready = worked_out(world)
    before = world.replicas
    world.load = replace(QUIET, held=1, reported_us=NOW)
    move = world.look()[0].move
    assert (ready is not None) == (not before and isinstance(move, Scale))


def test_it_is_worked_out_with_the_first_look() -> None:
    """Which makes the Deployment: no other look may follow before somebody calls."""
    world = World()
    steering, _ = world.look()
    assert isinstance(steering.move, Create)
    ready = worked_out(world)
    assert ready == Prepared(Scale(world.children[Kind.DEPLOYMENT]["metadata"]["uid"], 1), sys.maxsize)


@pytest.mark.parametrize("changed", ["rendering", "deletion", "predecessor", "pod", "awake"])
def test_nothing_is_worked_out_where_a_wake_takes_more_than_to_scale(changed: str) -> None:
    """Another rendering, a Deployment that goes or is to go, a pod that has not gone, or replicas that there are."""
    world = awake() if changed == "awake" else World()
    world.settle()
    live = world.children[Kind.DEPLOYMENT]["metadata"]
    if changed == "rendering":
        live["annotations"][ANNOTATION_RENDERED_DIGEST] = "an older one"
    elif changed == "deletion":
        live["deletionTimestamp"] = "2026-09-21T14:13:20Z"
    elif changed == "predecessor":
        live["ownerReferences"][0]["uid"] = "of one that had the name"
    elif changed == "pod":
        world.pods = awake().pods
    assert worked_out(world) is None
