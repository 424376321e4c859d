"""Prewarming carried out: a replica before the requests that are expected, and what is told of it."""

from __future__ import annotations

from dataclasses import replace

from tests.reconcile.helpers import NOW, raw
from tests.reconcile.world import QUIET, World
from zerotide.api.endpoint import Status
from zerotide.api.scalars import HOUR, MINUTE, SECOND, format_time
from zerotide.scaling.learning.explain import Learned
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


def look_again(made: World) -> None:
    """Let the account look at what is there, as the operator does, until nothing is written."""
    for _ in range(4):
        assert made.prewarmed is not None
        status = Status.read(made.status)
        stays, account = bool(status.desired_replicas), made.prewarmed.account
        account = step(account, None, HOUR, made.load.last_request_us, not stays, made.now_us, stays=stays)
        made.prewarmed = replace(made.prewarmed, account=account)
        made.step()


def test_a_timeout_that_grows_meanwhile_costs_no_more() -> None:
    """What was set aside is the most, whatever is learned from others' silences."""
    made = world()
    open_up(made)
    made.run_pods()
    made.settle()
    made.learned = Learned(HOUR, "learned", 9, "", "", 1.0, 9)
    made.now_us = EXPECTED.from_us + EXPECTED.most_us - SECOND
    look_again(made)
    assert made.replicas == 1
    assert made.look()[0].situation.due_us == EXPECTED.from_us + EXPECTED.most_us
    made.now_us += SECOND
    look_again(made)
    assert made.replicas == 0 and made.status["lastDecision"]["reason"] == "Idle"
    assert made.prewarmed is not None and made.prewarmed.account.spent_us == EXPECTED.most_us
    assert (made.prewarmed.account.missed, made.prewarmed.account.opening) == (1, None)


def test_while_a_report_is_missing_it_stays_and_that_is_spent() -> None:
    """A missing report means awake, so the day's next ones have less, and it sleeps at once with the report."""
    made = world()
    open_up(made)
    made.run_pods()
    made.settle()
    heard, made.load = made.load, replace(made.load, missing=("act-0",))
    over_us = EXPECTED.from_us + EXPECTED.most_us
    for late in (0, 10 * MINUTE, 20 * MINUTE):
        made.now_us = over_us + late
        look_again(made)
        assert made.replicas == 1
    assert made.prewarmed is not None and made.prewarmed.account.spent_us == EXPECTED.most_us + 20 * MINUTE
    due_us = made.look()[0].situation.due_us
    assert due_us is None or due_us > made.now_us, "a time that is over calls for no look"
    made.load = heard
    look_again(made)
    assert made.replicas == 0 and made.prewarmed.account.spent_us == EXPECTED.most_us + 20 * MINUTE
    assert (made.prewarmed.account.missed, made.prewarmed.account.opening) == (1, None)


def test_a_dry_run_starts_nothing_and_writes_nothing() -> None:
    """Who sleeps is not written to; what would have been is told with the next wake."""
    made = world(enabled=False)
    before = made.writes
    open_up(made)
    made.settle()
    assert made.replicas == 0 and made.writes == before
    assert made.prewarmed is not None and "15m of 1h spent today" in made.prewarmed.message
