"""Starts that fail: told, given up, put off, forgotten with success or a new spec."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tests.reconcile.helpers import raw
from tests.reconcile.world import QUIET, World, awake, truth
from zerotide.api.scalars import SECOND, format_time
from zerotide.reconcile.pods import Exit, Stage


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


def fail(world: World) -> None:
    """Have a start fail for which a request is made now."""
    world.wish(f"w{world.now_us}")
    world.step()
    world.run_pods(Stage.SCHEDULED, waiting="CrashLoopBackOff", restarts=2, exit=Exit("Error", 1, "boom"))
    world.pass_time(1)
    world.step()


def give_up(world: World, seconds: int) -> None:
    """Let nobody ask until the start is given up, and so many seconds be over since it failed."""
    world.pass_time(301)
    world.step()
    world.pods = ()
    assert world.replicas == 0
    world.pass_time(seconds - 301)
    world.settle()


def test_the_window_of_failed_starts_slides() -> None:
    """Each failure is forgotten by itself, by every operator: `status.failedStarts` has the times."""
    world = World(obj=raw({"start": {"failureWindow": "1h"}}))
    world.settle()
    times: list[str] = []
    for seconds in (3_000, 900, 400):
        fail(world)
        times.insert(0, format_time(world.now_us))
        give_up(world, seconds)
    world = World(obj=world.obj, children=world.children, now_us=world.now_us)
    fail(world)
    told = world.status["failedStarts"]
    assert told["times"] == [format_time(world.now_us), *times[:2]], "the first is older than an hour"
    assert (told["count"], told["since"]) == (3, times[1])
    world.load = replace(QUIET, held=1)
    world.pass_time(2)
    world.step()
    assert world.replicas == 0, "the third within the hour, though a request waits"


def test_failed_starts_without_times_are_forgotten_with_the_first() -> None:
    """As the operator did that wrote them."""
    for seconds, count in ((400, 3), (3_601, 1)):
        world = failing()
        since = world.now_us
        world.status["failedStarts"] |= {"count": 2, "since": format_time(since)}
        del world.status["failedStarts"]["times"]
        give_up(world, seconds)
        fail(world)
        told = world.status["failedStarts"]
        assert told["count"] == count and len(told["times"]) == count
        assert told["since"] == format_time(since if count == 3 else world.now_us)


def test_as_many_failed_starts_are_kept_as_a_status_may_have() -> None:
    """A status that had more would be refused, and with it all that the operator has to tell."""
    world = failing()
    world.status["failedStarts"] |= {"count": 2_000_000_000}
    del world.status["failedStarts"]["times"]
    world.step()
    assert world.status["failedStarts"]["count"] == len(world.status["failedStarts"]["times"]) == 100
    give_up(world, 3_000)
    assert world.status["failedStarts"]["count"] == 100


def test_a_start_for_which_there_is_no_room_ends_once_nobody_asks() -> None:
    """The idle timeout after start.capacityTimeout, and no sooner: room may come until then."""
    world = World()
    world.settle()
    world.wish("w1")
    world.step()
    world.run_pods(Stage.UNSCHEDULABLE, scheduled_us=None, unscheduled="0/1 nodes are available")
    for seconds, replicas in ((301, 1), (298, 1), (2, 0)):
        world.pass_time(seconds)
        world.settle()
        assert world.replicas == replicas
    assert "failedStarts" not in world.status


def test_who_waits_for_the_place_of_an_old_replica_waits_as_long_as_any_other() -> None:
    """Although nobody asks: both times begin when that one is gone, and not when the new one was made."""
    world = awake(World(load=replace(QUIET, in_flight=1)))
    old = replace(world.pods[0], name="a-old", uid="old")
    world.spec(runtime={"image": "runtime:9"})
    world.step()
    world.run_pods(Stage.UNSCHEDULABLE, scheduled_us=None, unscheduled="0/1 nodes are available")
    new = world.pods
    world.pods = (old, *new)
    world.pass_time(300)
    world.settle()
    world.pods, world.load = new, QUIET
    for seconds, replicas in ((0, 1), (599, 1), (2, 0)):
        world.pass_time(seconds)
        world.settle()
        assert world.replicas == replicas


def test_a_start_is_looked_at_when_its_deadline_is_over() -> None:
    """By the clock alone, since nothing of it changes."""
    world = World(obj=raw({"start": {"deadline": "10m"}}), load=replace(QUIET, held=1))
    world.settle()
    world.run_pods(Stage.RUNNING)
    world.pass_time(30)
    world.settle()
    _, planned = world.look()
    assert world.status["state"] == "Loading" and planned.again_us == world.now_us + 570 * SECOND
    world.pass_time(570)
    world.step()
    assert world.condition("Accepting")["reason"] == "StartDeadlineExceeded"
