"""When what an endpoint cost is written: along with other changes, seldom alone, and once more at the end."""

from __future__ import annotations

from tests.reconcile.world import World, awake
from zerotide.api.cost import Cost
from zerotide.api.scalars import MINUTE, SECOND
from zerotide.reconcile.observed import Spent


def spent(amount: str, *, final: bool = False) -> Spent:
    """Return what an endpoint cost this month."""
    cost = Cost(currency="USD", month="2026-11", month_to_date=amount, day="2026-11-25", day_to_date=amount)
    return Spent(cost, final)


def written(world: World) -> str:
    """Return the month's cost as the status tells it."""
    return str((world.status.get("cost") or {}).get("monthToDate", ""))


def test_alone_it_is_written_every_five_minutes_at_most() -> None:
    world = World()
    world.spec(scaling={"idle": {"timeout": "1h"}})
    awake(world)
    before, at_us = world.writes, world.written_us
    for minute in range(1, 5):
        world.now_us = at_us + minute * MINUTE - SECOND
        world.spent = spent(f"{minute}.0")
        _, planned = world.step()
        assert (world.writes, planned.again_us is not None) == (before, True)
        assert planned.again_us is not None and planned.again_us <= at_us + 5 * MINUTE
    world.now_us = at_us + 5 * MINUTE
    world.settle()
    assert (world.writes, written(world)) == (before + 1, "4.0")


def test_other_changes_take_it_along() -> None:
    world = awake()
    world.spent = spent("1.0")
    world.spec(model={"uri": "image:///other"})
    world.settle()
    assert written(world) == "1.0"


def test_who_sleeps_is_told_once_when_all_is_counted() -> None:
    world = World()
    world.settle()
    before = world.writes
    world.spent = spent("1.0")
    world.pass_time(3600)
    assert world.settle() == 0 and world.writes == before, "its last replica may not be counted yet"
    world.spent = spent("1.1", final=True)
    world.settle()
    assert (world.writes, written(world)) == (before + 1, "1.1")
    for _ in range(3):
        world.pass_time(3600)
        assert world.settle() == 0
    assert world.writes == before + 1, "who sleeps costs no write"


def test_what_is_known_stays_while_the_exporter_is_silent() -> None:
    """As after a restart of the operator, or of the exporter in a later month."""
    world = World()
    world.spent = spent("1.0", final=True)
    world.settle()
    world.spent = None
    world.pass_time(3600)
    assert world.settle() == 0 and written(world) == "1.0"
    world.spec(suspend=True)
    world.settle()
    assert (world.status["state"], written(world)) == ("Suspended", "1.0")
