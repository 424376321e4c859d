"""Budgets that withhold: nothing is kept without requests, what is asked for is started, and all ends with a window."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.reconcile.helpers import NOW, raw
from tests.reconcile.world import QUIET, World
from zerotide.api.scalars import HOUR, SECOND, format_time
from zerotide.reconcile.observed import Withheld

END = NOW + 9 * HOUR
WITHHELD = Withheld("budget month of the namespace: 9.50 USD of 10.00 USD are used up (95 %)", END)


def world(**scaling: Any) -> World:
    """Return an endpoint that is to be kept warm."""
    made = World(obj=raw({"scaling": {"maxReplicas": 3, "idle": {"timeout": "5m"}, **scaling}}))
    made.load = replace(QUIET, reported_us=NOW + 99 * HOUR)
    return made


@pytest.mark.parametrize(
    ("scaling", "what"),
    [
        ({"minReplicas": 1}, "minReplicas"),
        (
            {"schedules": [{"name": "always", "start": "* * * * *", "duration": "10m", "minReplicas": 1}]},
            "schedule always",
        ),
        (
            {"override": {"minReplicas": 1, "until": format_time(END + HOUR)}},
            f"an override until {format_time(END + HOUR)}",
        ),
    ],
)
def test_what_keeps_replicas_keeps_none(scaling: dict[str, Any], what: str) -> None:
    """They go when nobody asks for them, and come again with the budget's next window, by a look of its own."""
    made = world(**scaling)
    made.settle()
    made.run_pods()
    made.settle()
    assert made.replicas == 1
    made.pass_time(600)
    made.settle()
    assert made.replicas == 1, "whatever keeps it keeps it"
    made.withheld = WITHHELD
    made.settle()
    assert made.replicas == 0
    last = made.status["lastDecision"]
    assert (last["reason"], last["from"], last["to"]) == ("Budget", 1, 0)
    assert last["message"] == f"{what} keeps none: {WITHHELD.reason}; no request for the idle timeout"
    assert "keptAwakeBy" not in made.status
    made.run_pods()
    made.settle()
    steering, _ = made.look()
    assert steering.situation.due_us is not None and steering.situation.due_us <= END
    made.now_us, made.withheld = END, None
    made.step()
    assert made.replicas == 1


def test_requests_are_served_as_ever() -> None:
    """A held one wakes it, and it stays as long as its idle timeout says."""
    made = world(minReplicas=1)
    made.withheld = WITHHELD
    made.settle()
    assert made.replicas == 0
    made.wish("w1")
    made.step()
    assert made.replicas == 1
    made.run_pods()
    made.load = replace(made.load, last_activity_us=made.now_us, last_request_us=made.now_us)
    made.pass_time(299)
    made.settle()
    assert made.replicas == 1
    made.pass_time(2)
    made.settle()
    assert made.replicas == 0 and made.status["lastDecision"]["reason"] == "Budget"


def test_what_is_pinned_stays() -> None:
    """A number that somebody set is neither kept warm nor foretold."""
    made = world(pinnedReplicas=2)
    made.withheld = WITHHELD
    made.settle()
    made.pass_time(600)
    made.settle()
    assert made.replicas == 2


def test_more_than_is_asked_for_goes() -> None:
    """Of two that were kept, one serves."""
    made = world(minReplicas=2)
    made.settle()
    made.run_pods()
    made.load = replace(made.load, in_flight=1, last_activity_us=made.now_us)
    made.settle()
    made.withheld = WITHHELD
    for _ in range(4):
        made.pass_time(61)
        made.settle()
    assert made.replicas == 1
    assert made.status["lastDecision"]["reason"] == "Budget"
    assert made.now_us < END and END % SECOND == 0
