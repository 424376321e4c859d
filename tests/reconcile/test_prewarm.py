"""Prewarming carried out: a replica before the requests that are expected, and what is told of it."""

from __future__ import annotations

from dataclasses import replace

from tests.reconcile.helpers import NOW, raw
from tests.reconcile.world import QUIET, World
from zerotide.api.endpoint import Status
from zerotide.api.scalars import HOUR, MINUTE, SECOND, format_time
from zerotide.scaling.prewarm.account import DAY, Account, step
from zerotide.scaling.prewarm.habits import Expected, Habits, Hour
from zerotide.scaling.prewarm.prewarmed import Prewarmed

NINE = (NOW // DAY + 1) * DAY + 9 * HOUR
EXPECTED = Expected(NINE - 5 * MINUTE, NINE, NINE + 10 * MINUTE, 3, 3, 15 * MINUTE)


def world(enabled: bool = True) -> World:
    """Return a world at six in the morning."""
    spec = {"scaling": {"idle": {"timeout": "5m"}, "prewarm": {"mode": "Enabled" if enabled else "DryRun"}}}
    made = World(obj=raw(spec))
    made.now_us = NINE - 3 * HOUR
    made.load = replace(QUIET, reported_us=NINE * 2)
    made.prewarmed = Prewarmed(enabled, HOUR, Habits(0, {9: Hour(3, 30, 39)}), Account(), EXPECTED)
    made.settle()
    return made


def open_up(made: World) -> None:
    """Let the time come."""
    made.now_us = EXPECTED.from_us
    assert made.prewarmed is not None
    account = step(made.prewarmed.account, EXPECTED, HOUR, 0, True, made.now_us)
    made.prewarmed = replace(made.prewarmed, account=account)
    made.step()


def test_it_starts_ahead_and_sleeps_when_nobody_came() -> None:
    """Looked at again when it starts, and when the latest minute has passed."""
    made = world()
    steering, _ = made.look()
    assert made.replicas == 0 and steering.situation.due_us == EXPECTED.from_us
    open_up(made)
    assert made.replicas == 1
    made.pass_time(1)
    made.settle()
    assert made.status["lastDecision"]["reason"] == "Prewarm"
    assert made.status["lastDecision"]["message"] == "prewarm asks for it"
    made.run_pods()
    made.settle()
    told = Status.read(made.status).prewarm
    assert told is not None and told.spent == "15m" and told.history == "9:3:30:39"
    assert (told.next_time, told.spent_day) == (format_time(NINE), format_time(NINE // DAY * DAY))
    made.now_us = EXPECTED.end_us - SECOND
    steering, _ = made.look()
    assert steering.decision.kept_by == "prewarm" and steering.situation.due_us == EXPECTED.end_us
    made.now_us += SECOND
    made.settle()
    assert made.replicas == 0 and made.status["lastDecision"]["reason"] == "Idle"


def test_a_dry_run_starts_nothing_and_writes_nothing() -> None:
    """Who sleeps is not written to; what would have been is told with the next wake."""
    made = world(enabled=False)
    before = made.writes
    open_up(made)
    made.settle()
    assert made.replicas == 0 and made.writes == before
    assert made.prewarmed is not None and "15m of 1h spent today" in made.prewarmed.message
