"""The truth table of conditions, and the laws that keep a quiet system silent."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerotide.api.conditions import (
    DEFAULT_REASONS,
    TRUTH,
    ConditionType,
    Reason,
    State,
    Verified,
    conditions,
    truth,
)
from zerotide.api.endpoint import Status
from zerotide.api.scalars import format_time

TIMES = st.integers(0, 4_000_000_000).map(lambda seconds: seconds * 1_000_000)
ARGUMENTS = st.tuples(
    st.sampled_from(State), st.sampled_from(Reason), st.text(max_size=40), st.integers(0, 9), st.booleans()
)


def make(
    arguments: tuple[State, Reason, str, int, bool], previous: list[dict[str, Any]], now: int
) -> list[dict[str, Any]]:
    state, reason, message, generation, rolling = arguments
    return conditions(state, reason, message, generation, previous, now, rolling_out=rolling)


def statuses(state: State, reason: Reason, rolling_out: bool = False) -> str:
    """Return the five statuses as T and F: Ready, Accepting, Serving, Reconciling, Stalled."""
    rows = conditions(state, reason, "", 1, [], 0, rolling_out=rolling_out)
    return "".join(row["status"][0] for row in rows)


@pytest.mark.parametrize(
    ("state", "reason", "expected"),
    [
        (State.ASLEEP, Reason.SCALED_TO_ZERO, "TTFFF"),
        (State.ASLEEP, Reason.NEVER_SERVED, "TTFFF"),
        (State.WAKING, Reason.WAKING, "TTFFF"),
        (State.PULLING, Reason.WAKING, "TTFFF"),
        (State.LOADING, Reason.WAKING, "TTFFF"),
        (State.WAITING_FOR_CAPACITY, Reason.WAKING, "TTFFF"),
        (State.WAITING_FOR_CAPACITY, Reason.UNSCHEDULABLE, "FFFFF"),
        (State.AWAKE, Reason.SERVING, "TTTFF"),
        (State.DRAINING, Reason.SERVING, "TTFFF"),
        (State.FAILED, Reason.CRASH_LOOPING, "FFFFT"),
        (State.SUSPENDED, Reason.SUSPENDED, "TFFFF"),
        (State.SUSPENDED, Reason.BUDGET_EXHAUSTED, "TFFFF"),
    ],
)
def test_the_truth_table(state: State, reason: Reason, expected: str) -> None:
    assert statuses(state, reason) == expected


def test_every_state_has_a_row_and_all_but_failed_a_reason() -> None:
    assert set(TRUTH) == set(State)
    assert set(State) - set(DEFAULT_REASONS) == {State.FAILED}


@given(st.sampled_from(State), st.sampled_from(Reason))
def test_reconciling_is_true_in_a_roll_out_only_where_a_replica_may_serve(state: State, reason: Reason) -> None:
    assert statuses(state, reason, rolling_out=True)[3] == ("T" if state in (State.AWAKE, State.DRAINING) else "F")


@given(st.sampled_from(State), st.sampled_from(Reason))
def test_the_rows_make_sense(state: State, reason: Reason) -> None:
    row = truth(state, reason)
    assert not (row.ready and row.stalled)
    assert not (row.serving and not row.accepting)


@given(ARGUMENTS, TIMES, TIMES)
def test_the_same_again_is_the_same_whenever(
    arguments: tuple[State, Reason, str, int, bool], first: int, second: int
) -> None:
    once = make(arguments, [], first)
    assert make(arguments, once, second) == once


@given(ARGUMENTS, ARGUMENTS, TIMES, TIMES)
def test_the_transition_time_moves_exactly_when_the_status_flips(
    before: tuple[State, Reason, str, int, bool], after: tuple[State, Reason, str, int, bool], first: int, second: int
) -> None:
    old = make(before, [], first)
    for was, is_ in zip(old, make(after, old, second), strict=True):
        flipped = was["status"] != is_["status"]
        assert is_["lastTransitionTime"] == (format_time(second) if flipped else was["lastTransitionTime"])


@given(ARGUMENTS, TIMES)
def test_conditions_fit_the_status_type(arguments: tuple[State, Reason, str, int, bool], now: int) -> None:
    status = Status.read({"conditions": make(arguments, [], now)})
    assert [condition.type for condition in status.conditions] == [type_.value for type_ in ConditionType]
    ready = status.condition("Ready")
    assert ready is not None
    assert ready.reason == arguments[1].value
    assert status.condition("Other") is None


def test_foreign_and_odd_conditions_do_not_disturb() -> None:
    previous = [{"type": "Other", "status": "True"}, {}, {"type": "Ready", "status": "True"}]
    ready = conditions(State.AWAKE, Reason.SERVING, "", 1, previous, 0)[0]
    assert ready["lastTransitionTime"] == format_time(0)


def test_a_sixth_condition_where_a_spec_is_verified() -> None:
    """It may be unknown, keeps its time as the others do, and tells the beginning of what Ready tells in full."""
    unknown = Verified("Unknown", "Verifying", "not known yet")
    first = conditions(State.WAKING, Reason.WAKING, "", 1, [], 10**15, verified=unknown)
    assert [row["type"] for row in first] == [*(type_.value for type_ in ConditionType), "Verified"]
    assert (first[-1]["status"], first[-1]["reason"]) == ("Unknown", "Verifying")
    again = conditions(State.WAKING, Reason.WAKING, "", 1, first, 2 * 10**15, verified=unknown)
    assert again == first
    failed = Verified("False", "CrashLooping", "word " * 100)
    (*_, last) = conditions(State.WAKING, Reason.WAKING, "", 1, first, 2 * 10**15, verified=failed)
    assert last["lastTransitionTime"] == format_time(2 * 10**15) and last["message"].endswith("… (see Ready)")
