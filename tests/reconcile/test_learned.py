"""A learned idle timeout: it decides in place of the spec's, and the status says why, without a write of its own."""

from __future__ import annotations

from dataclasses import replace

from tests.reconcile.helpers import raw
from tests.reconcile.world import QUIET, World, awake
from zerotide.api.endpoint import Status
from zerotide.api.scalars import MINUTE, SECOND
from zerotide.scaling.learning.explain import Learned
from zerotide.scaling.learning.memory import read

LEARNED = Learned(40 * SECOND, "after 12 silences", 12, "30:5 41:7", "41:3", 1.5, 3)


def learning() -> World:
    """Return a world whose endpoint is awake and learns."""
    world = awake(World(obj=raw({"scaling": {"idle": {"policy": "Learned", "timeout": "5m"}}})))
    world.learned = LEARNED
    world.load = replace(QUIET, last_activity_us=world.now_us, last_request_us=world.now_us)
    world.settle()
    return world


def test_the_learned_timeout_decides() -> None:
    """Not the spec's, in either direction."""
    world = learning()
    world.pass_time(39)
    assert world.look()[0].decision.replicas == 1
    world.pass_time(1)
    assert world.look()[0].decision.replicas == 0
    world.learned = replace(LEARNED, timeout_us=10 * MINUTE)
    world.pass_time(9 * 60)
    assert world.look()[0].decision.replicas == 1


def test_the_status_explains_and_remembers() -> None:
    """All that the next operator needs; it is written along, and alone no more than once a minute, never asleep."""
    world = learning()
    world.pass_time(120)
    world.learned = replace(LEARNED, timeout_us=10 * MINUTE)
    world.settle()
    idle = Status.read(world.status).idle
    assert idle is not None and (idle.timeout, idle.message, idle.silences) == ("10m", "after 12 silences", 12)
    assert read(idle.history).seen == 12 and (idle.held_per_wake, idle.wakes) == ("1.50", 3)
    world.learned = replace(LEARNED, timeout_us=10 * MINUTE, silences=13, history="30:6 41:7")
    world.pass_time(1)
    before = world.writes
    world.step()
    assert world.writes == before, "a silence more can wait"
    world.pass_time(60)
    world.step()
    assert world.writes == before + 1 and world.status["idle"]["silences"] == 13
    world.learned = replace(LEARNED, silences=14)
    world.pass_time(60)
    world.settle()
    assert world.replicas == 0 and world.status["idle"]["silences"] == 14
    world.run_pods()
    world.settle()
    asleep = world.writes
    world.learned = replace(LEARNED, silences=15)
    world.pass_time(600)
    world.step()
    assert world.writes == asleep


def test_a_fixed_timeout_leaves_no_trace() -> None:
    """The record goes with the policy."""
    world = learning()
    world.pass_time(61)
    world.learned = replace(LEARNED, timeout_us=10 * MINUTE)
    world.settle()
    assert "idle" in world.status
    world.learned = None
    world.spec(scaling={"idle": {"policy": "Fixed", "timeout": "5m"}})
    world.settle()
    assert "idle" not in world.status
