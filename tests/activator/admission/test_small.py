"""Shares, estimates, and when to ask for a wake."""

from __future__ import annotations

from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given

from zerotide.activator.admission.estimate import History, remaining
from zerotide.activator.admission.profile import Profile, profile_of
from zerotide.activator.admission.shares import share, share_of_limit
from zerotide.activator.admission.waking import must_ask
from zerotide.api.endpoint import InferenceEndpoint
from zerotide.api.errors import ErrorCode

NAMES = st.sets(st.text(min_size=1, max_size=3), min_size=1, max_size=6)


@given(st.integers(0, 10_000), NAMES)
def test_shares_sum_to_the_whole(total: int, names: set[str]) -> None:
    """Nothing is given twice or lost, and nobody gets two more than another."""
    parts = [share(total, name, names) for name in names]
    assert sum(parts) == total
    assert max(parts) - min(parts) <= 1


@given(st.integers(1, 100), NAMES)
def test_a_limit_lets_everyone_do_something(limit: int, names: set[str]) -> None:
    """A share of a limit is at least one; beyond that the limit is kept."""
    parts = [share_of_limit(limit, name, names) for name in names]
    assert min(parts) >= 1
    assert sum(parts) == max(limit, len(names))


def test_one_who_is_not_listed_counts_himself() -> None:
    """An activator that is not ready yet shares as if it were."""
    assert share(10, "b", ["a"]) == 5
    assert share(10, "a", []) == 10


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=20), st.integers(0, 1000))
def test_what_remains(durations: list[int], elapsed: int) -> None:
    """It is what at least nine of ten of those that took longer needed no more than."""
    rest = remaining(durations, elapsed)
    longer = [duration - elapsed for duration in durations if duration > elapsed]
    assert rest == 0 if not longer else rest in longer
    assert sum(each <= rest for each in longer) >= 0.9 * len(longer)


def test_history() -> None:
    """Own measurements come first, others' as long as there are none, and never a guess."""
    history = History()
    assert history.remaining_us(0) is None
    assert history.remaining_us(4, (10, 5)) == 6
    assert history.remaining_us(40, (10, 5)) == 0
    history.add(100)
    assert history.remaining_us(30, (10, 5)) == 70


def profile(status: dict[str, Any] | None = None, generation: int = 1, **spec: Any) -> Profile:
    """Make a profile."""
    return profile_of(
        InferenceEndpoint.parse(
            {
                "apiVersion": "zerotide.dev/v1alpha1",
                "kind": "InferenceEndpoint",
                "metadata": {"namespace": "demo", "name": "m", "generation": generation},
                "spec": {"model": {"uri": "image:///m"}, **spec},
                "status": status or {},
            }
        )
    )


WAKE = {"id": "w1", "time": "2026-11-22T10:00:00Z", "by": "act-0"}


@pytest.mark.parametrize(
    ("status", "ask"),
    [
        ({}, True),
        ({"desiredReplicas": 0}, True),
        ({"desiredReplicas": 1}, False),
        ({"wakeRequest": WAKE}, False),
        ({"wakeRequest": WAKE, "handledWakeRequest": "w1", "desiredReplicas": 1}, False),
        ({"wakeRequest": WAKE, "handledWakeRequest": "w1", "desiredReplicas": 0}, True),
        ({"wakeRequest": WAKE, "handledWakeRequest": "w0", "desiredReplicas": 0}, False),
    ],
)
def test_when_to_ask(status: dict[str, Any], ask: bool) -> None:
    """A sleeping endpoint is asked once; a wish that stands is enough."""
    assert must_ask(profile(status)) is ask
    assert must_ask(profile(status, suspend=True)) is False


def test_blocked() -> None:
    """The spec blocks at once; a condition blocks for the generation that it is about; times are read from it."""
    base = {"type": "Accepting", "status": "False", "lastTransitionTime": "2026-11-22T10:00:00Z"}
    crash = {**base, "reason": "CrashLooping", "message": "exit 1", "observedGeneration": 2}
    blocked = profile({"conditions": [crash]}, 2).blocked
    assert blocked is not None
    assert (blocked.code, blocked.message) == (ErrorCode.CRASH_LOOPING, "endpoint demo/m: exit 1")
    ready = {**crash, "type": "Ready", "message": "exit 1: no such model"}
    whole = profile({"conditions": [ready, crash]}, 2).blocked
    assert whole is not None and whole.message == "endpoint demo/m: exit 1: no such model", "clients get all of it"
    other = profile({"conditions": [{**ready, "reason": "ModelNameConflict"}, crash]}, 2).blocked
    assert other == blocked, "Ready tells of something else"
    assert profile({"conditions": [crash]}, 3).blocked is None
    assert profile({"conditions": [{**crash, "status": "True"}]}, 2).blocked is None
    assert profile({"conditions": [{**crash, "reason": "Suspended"}]}, 2).blocked is None
    backoff = {**crash, "reason": "StartBackoff"}
    failed = {"count": 3, "since": "2026-11-22T10:00:00Z", "reason": "CrashLooping"}
    later = {"conditions": [backoff], "failedStarts": {**failed, "retryTime": "2026-11-22T10:00:30Z"}}
    due = profile(later, 2).blocked
    assert due is not None
    assert due.due_us is not None
    assert due.rejection(due.due_us - 20_000_000).row.status == 503
    assert due.rejection(due.due_us - 90_000_000).row.status == 500
    unknown = profile({"conditions": [backoff], "failedStarts": failed}, 2).blocked
    assert unknown is not None
    assert unknown.rejection(0).row.status == 500
