"""Schedules and overrides carried out: who is started, why it stays, when it is looked at again, what is told."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tests.reconcile.helpers import NOW, raw
from tests.reconcile.world import QUIET, World
from zerotide.api.scalars import HOUR, MINUTE, SECOND, format_time

AT_NINE = {"name": "nine", "start": "0 9 * * *", "duration": "2h"}
NINE = (NOW // (24 * HOUR) + 1) * 24 * HOUR + 9 * HOUR


def world(**scaling: Any) -> World:
    """Return a world the evening before."""
    made = World(obj=raw({"scaling": {"maxReplicas": 3, **scaling}}))
    made.now_us = NINE - 3 * HOUR
    made.load = replace(QUIET, reported_us=NINE * 2)
    made.settle()
    return made


def test_a_window_opens_and_closes() -> None:
    """It starts by itself, stays without a request, and sleeps when the window is over and the timeout has passed."""
    made = world(schedules=[{**AT_NINE, "minReplicas": 2}])
    assert made.replicas == 0 and made.status["schedule"]["startTime"] == format_time(NINE)
    steering, _ = made.look()
    assert steering.situation.due_us == NINE
    made.now_us = NINE
    made.step()
    assert made.replicas == 2
    made.pass_time(1)
    made.settle()
    assert made.status["lastDecision"]["reason"] == "Schedule"
    assert made.status["lastDecision"]["message"] == "schedule nine asks for it"
    made.run_pods()
    made.settle()
    made.now_us = NINE + 2 * HOUR - SECOND
    steering, _ = made.look()
    assert steering.decision.replicas == 2 and steering.decision.kept_by == "schedule nine"
    assert steering.situation.due_us == NINE + 2 * HOUR
    made.now_us += SECOND
    made.settle()
    assert made.replicas == 0 and made.status["lastDecision"]["reason"] == "Idle"


def test_a_window_opens_earlier_by_what_a_start_takes() -> None:
    """The measured p90, shown in the status."""
    made = world(schedules=[AT_NINE])
    starts = {"window": 20, "count": 9, "p50": "1m", "p90": "4m30s"}
    made.obj["status"] = {**made.status, "coldStarts": starts}
    assert made.look()[0].situation.due_us == NINE - 270 * SECOND
    made.now_us = NINE - 270 * SECOND
    made.step()
    made.pass_time(1)
    made.settle()
    assert made.replicas == 1
    assert made.status["schedule"] == {
        "name": "nine",
        "minReplicas": 1,
        "startTime": format_time(NINE),
        "endTime": format_time(NINE + 2 * HOUR),
        "leadTime": "4m30s",
    }


def test_an_override_for_a_while() -> None:
    """It starts replicas, and ends by itself; 0 lets an endpoint sleep within a window."""
    made = world(override={"minReplicas": 1, "until": format_time(NINE)})
    made.pass_time(1)
    made.settle()
    assert made.replicas == 1 and made.status["lastDecision"]["reason"] == "Override"
    made.run_pods()
    made.settle()
    assert made.look()[0].situation.due_us == NINE
    made.now_us = NINE
    made.settle()
    assert made.replicas == 0
    until = format_time(NINE + HOUR)
    asleep = world(schedules=[AT_NINE], override={"minReplicas": 0, "until": until})
    asleep.now_us = NINE + MINUTE
    asleep.settle()
    assert asleep.replicas == 0
    asleep.now_us = NINE + HOUR
    asleep.settle()
    assert asleep.replicas == 1


def test_suspension_and_pins_are_stronger() -> None:
    """As they are stronger than minReplicas."""
    made = world(schedules=[AT_NINE], pinnedReplicas=3)
    made.now_us = NINE
    made.settle()
    assert made.replicas == 3
    made.spec(suspend=True)
    made.settle()
    assert made.replicas == 0


def test_an_override_is_shown_while_it_holds() -> None:
    """One that lets sleep, too; that it is over wakes no writer for who sleeps."""
    made = world(schedules=[{**AT_NINE, "start": "0 0 * * *", "duration": "24h"}])
    made.pass_time(1)
    made.settle()
    made.run_pods()
    made.settle()
    made.now_us += HOUR
    made.settle()
    assert made.replicas == 1 and "override" not in made.status
    until = format_time(NINE)
    made.spec(scaling={**made.obj["spec"]["scaling"], "override": {"minReplicas": 0, "until": until}})
    made.settle()
    assert made.replicas == 0 and made.status["override"] == {"minReplicas": 0, "until": until}
    made.now_us = NINE
    made.spec(scaling={"maxReplicas": 3, "override": {"minReplicas": 0, "until": until}})
    made.settle()
    assert "override" not in made.status
    sleeper = world(override={"minReplicas": 0, "until": until})
    assert sleeper.status["override"] == {"minReplicas": 0, "until": until}
    sleeper.now_us = NINE + HOUR
    assert sleeper.look()[1].status is None
