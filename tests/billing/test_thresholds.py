"""Thresholds are told once in a window, whatever the use does and whoever looks; webhooks again within bounds."""

from __future__ import annotations

import json
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerotide.api.budget import Budget, BudgetStatus
from zerotide.api.scalars import HOUR, SECOND, parse_time
from zerotide.billing.budgets import standing, status_of, window_of
from zerotide.billing.thresholds import SCHEDULE_S, reached, retry_after, told_of

START = parse_time("2026-11-25T00:00:00Z")
PERCENTS = (50, 75, 90, 100)
OPS = {"name": "ops", "url": "https://ops.example/hook", "secretRef": {"name": "ops"}}


def budget(limit: int = 100, status: BudgetStatus | None = None, **spec: Any) -> Budget:
    """Return a budget of tokens by the day."""
    thresholds = [{"percent": percent, "action": "Notify"} for percent in PERCENTS]
    content = {"limit": {"type": "Tokens", "tokens": limit}, "window": {"period": "Day"}, "notify": [OPS]}
    metadata = {"namespace": "demo", "name": "day", "uid": "u1"}
    body = {"metadata": metadata, "spec": {"thresholds": thresholds, **content, **spec}}
    made = Budget.parse({"apiVersion": "zerotide.dev/v1alpha1", "kind": "Budget", **body})
    return made.model_copy(update={"status": status or BudgetStatus()})


def look(found: Budget, known: BudgetStatus, used: int, now_us: int) -> BudgetStatus:
    """Return the status that a look finds, after one that found `known`."""
    stands = standing(found.spec, window_of(found.spec.window, now_us), Fraction(used))
    status = status_of(found, stands, ("USD",), now_us)
    return status.model_copy(update={"reached": reached(found, known, stands, status) or None})


LOOKS = st.lists(st.tuples(st.integers(0, 150), st.integers(0, 20 * 3600), st.booleans()), min_size=1, max_size=30)


@given(LOOKS)
def test_each_threshold_is_reached_once_in_a_window(looks: list[tuple[int, int, bool]]) -> None:
    """Use goes up and down, time only on; now and then somebody looks who knows what is written and nothing else."""
    known, now_us = BudgetStatus(), START
    first: dict[tuple[str | None, int], str] = {}
    for used, seconds, restarted in looks:
        now_us += seconds * SECOND
        written, known = known, BudgetStatus() if restarted else known
        status = look(budget(status=written), known, used, now_us)
        there = {each.percent for each in status.reached or ()}
        assert {percent for percent in PERCENTS if used >= percent} <= there
        for each in status.reached or ():
            assert first.setdefault((status.window_start, each.percent), each.time) == each.time
        assert there == {percent for window, percent in first if window == status.window_start}
        known = status


def test_two_that_look_at_once_agree_on_the_first() -> None:
    one = look(budget(), BudgetStatus(), 60, START + HOUR)
    other = look(budget(status=one), look(budget(), BudgetStatus(), 60, START + 2 * HOUR), 60, START + 3 * HOUR)
    assert [each.percent for each in other.reached or ()] == [50]


def test_another_limit_or_action_begins_anew() -> None:
    known = look(budget(), BudgetStatus(), 60, START)
    assert (look(budget(limit=1000), known, 60, START + HOUR)).reached is None
    (again,) = look(budget(limit=120), known, 60, START + HOUR).reached or ()
    assert again.time == "2026-11-25T01:00:00Z"
    block = [{"percent": 50, "action": "Block"}]
    (other,) = look(budget(thresholds=block), known, 60, START + HOUR).reached or ()
    assert (other.action.value, other.time) == ("Block", "2026-11-25T01:00:00Z")
    gone = [{"percent": 75, "action": "Notify"}]
    assert look(budget(thresholds=gone), known, 60, START + HOUR).reached is None


def test_what_is_told_is_the_same_each_time_and_another_for_each() -> None:
    team = {**OPS, "name": "team", "url": "https://team.example/"}
    named = budget(notify=[OPS, team])
    known = look(named, BudgetStatus(), 80, START + HOUR)
    told = told_of(named, known)
    assert [(each.percent, each.webhook.name) for each in told] == [
        (50, "ops"),
        (50, "team"),
        (75, "ops"),
        (75, "team"),
    ]
    later = look(named, known, 85, START + 2 * HOUR)
    assert told_of(named, later) == told
    tomorrow = look(named, later, 80, START + 30 * HOUR)
    ids = [each.id for each in (*told, *told_of(named, tomorrow))]
    assert len(set(ids)) == len(ids) and all("." not in id for id in ids)
    assert told_of(budget(notify=[]), known) == ()
    content = json.loads(told[0].body)
    assert content["timestamp"] == told[0].since == "2026-11-25T01:00:00Z"
    assert content["data"]["used"] == "80 tokens" and content["data"]["windowEnd"] == "2026-11-26T00:00:00Z"


def test_a_total_has_no_window_to_tell() -> None:
    whole = budget(window={"period": "Total"})
    (told, *_) = told_of(whole, look(whole, BudgetStatus(), 60, START))
    assert not {"windowStart", "windowEnd"} & json.loads(told.body)["data"].keys()


@given(st.lists(st.floats(0, 40_000), max_size=40))
def test_it_is_tried_a_bounded_number_of_times_and_later_each_time(slow: list[float]) -> None:
    """However long attempts take."""
    now, attempts, delays = 0.0, 0, []
    while (delay := retry_after(attempts, now)) is not None:
        assert delay >= 0
        delays.append(delay)
        now += delay + (slow[attempts] if attempts < len(slow) else 0.1)
        attempts += 1
    assert 1 <= attempts <= len(SCHEDULE_S)
    assert delays[0] == 0


@pytest.mark.parametrize(
    ("attempts", "elapsed", "delay"),
    [(0, 0, 0), (0, 10**9, 0), (1, 1, 4), (1, 100, 205), (5, 9400, 17905), (10, 0, None), (1, 272106, None)],
)
def test_the_schedule(attempts: int, elapsed: float, delay: float | None) -> None:
    assert retry_after(attempts, elapsed) == delay
