"""What people are told: the whole story once, one Event for each time that something breaks, and plain English."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.reconcile.helpers import raw
from tests.reconcile.world import QUIET, World
from zerotide.api.wording import counted
from zerotide.reconcile.pods import Stage

LONG = 'Back-off pulling image "registry.example/team/model:no-such-tag": ErrImagePull: ' + "failed to resolve " * 20


def failing(message: str = LONG) -> World:
    """Return a world whose image cannot be pulled."""
    world = World()
    world.settle()
    world.wish("w1")
    world.step()
    fail(world, message)
    return world


def fail(world: World, message: str = LONG) -> None:
    """Have the pull fail."""
    world.run_pods(Stage.SCHEDULED, waiting="InvalidImageName", waiting_message=message)
    world.pass_time(1)
    world.step()


def test_a_long_story_is_told_once() -> None:
    """In Ready; clients and those who wait for the start get its beginning, the rest of the conditions a few words."""
    world = failing()
    messages = {item["type"]: item["message"] for item in world.status["conditions"]}
    assert len(messages["Ready"]) > 300 and messages["Ready"].endswith("registry's credentials")
    for type_ in ("Accepting", "Stalled"):
        assert messages[type_].startswith('the image cannot be pulled: Back-off pulling image "registry.example')
        assert len(messages[type_]) < 180 and messages[type_].endswith("… (see Ready)")
    assert messages["Serving"] == "no replica can serve" and messages["Reconciling"] == "nothing is being rolled out"


def test_a_short_story_is_told_whole() -> None:
    """Nothing is cut that fits."""
    world = World(obj=raw({"podTemplate": {"spec": {"hostPID": True}}}))
    world.settle()
    assert world.condition("Ready")["message"] == world.condition("Stalled")["message"]
    assert "hostPID" in world.condition("Accepting")["message"]


def test_a_failure_is_one_event_however_often_it_is_looked_at() -> None:
    """The kubelet changes its words between two tries, and a process that comes later starts from what is written."""
    world = failing()
    fail(world, "another try, other words")
    world.settle()
    assert [(item.type, item.reason) for item in world.warnings.values()] == [("Warning", "ImagePullFailed")]
    successor = World(obj=world.obj, children=world.children, pods=world.pods, now_us=world.now_us)
    _, planned = successor.look()
    assert planned.status is None, "there is nothing to write"
    assert [(item.reason, item.once) for item in planned.warnings] == list(world.warnings), "and yet it is told"


def test_what_made_a_start_fail_is_told_by_whoever_gives_it_up() -> None:
    """The one who found out may have died before it told; the occasion is the same, so it is the same Event."""
    world = failing()
    (first,) = world.warnings
    successor = World(obj=world.obj, children=world.children, pods=world.pods, now_us=world.now_us)
    successor.pass_time(301)
    successor.step()
    assert successor.condition("Ready")["reason"] == "StartBackoff"
    reasons = [reason for reason, _ in successor.warnings]
    assert reasons == ["ImagePullFailed", "StartBackoff"] and first in successor.warnings


def test_the_next_failure_is_another_event() -> None:
    """Of a mended spec, or after a success."""
    world = failing()
    world.run_pods()
    world.settle()
    fail(world)
    assert len(world.warnings) == 2
    world.spec(runtime={"image": "runtime:9"})
    world.settle()
    fail(world)
    assert [reason for reason, _ in world.warnings] == ["ImagePullFailed"] * 3


def test_a_roll_out_that_cannot_start_is_told_while_the_old_replica_serves() -> None:
    """Ready stays True; nothing is given up."""
    world = World()
    world.spec(scaling={"minReplicas": 1})
    world.settle()
    world.run_pods()
    world.settle()
    old = replace(world.pods[0], name="a-old", uid="old")
    world.spec(runtime={"image": "runtime:9"})
    world.step()
    fail(world, "no such image")
    world.pods = (old, *world.pods)
    world.settle()
    assert world.status["state"] == "Awake" and world.condition("Ready")["status"] == "True"
    told = "serving an older spec, because the present one cannot run: the image cannot be pulled: no such image"
    assert world.condition("Ready")["message"].startswith(told)
    assert [(item.type, item.reason) for item in world.warnings.values()][-1] == ("Warning", "ImagePullFailed")
    assert world.replicas == 1 and "failedStarts" not in world.status


@pytest.mark.parametrize(("number", "text"), [(0, "0 requests"), (1, "1 request"), (2, "2 requests")])
def test_a_number_and_its_noun_agree(number: int, text: str) -> None:
    """In every message."""
    assert counted(number, "request") == text


def test_one_request_is_no_plural() -> None:
    """Neither in Events nor in the status."""
    world = World(load=replace(QUIET, held=1))
    world.settle()
    assert world.status["lastDecision"]["message"] == "1 request held"
    assert [notice.message for notice in world.notices] == ["from 0 to 1 replica: 1 request held"]
    world.load = replace(QUIET, in_flight=1)
    world.run_pods()
    world.settle()
    assert world.status["keptAwakeBy"] == "1 request in flight"
    world.load = replace(QUIET, held=2)
    world.pass_time(61)
    world.settle()
    assert world.status["keptAwakeBy"] == "2 held requests"
