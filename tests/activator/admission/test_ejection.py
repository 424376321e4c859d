"""The laws of ejecting replicas that fail."""

from __future__ import annotations

import hypothesis.strategies as st
from hypothesis import given

from zerotide.activator.admission.ejection import (
    ENOUGH,
    FORGIVEN,
    LONGEST,
    SHORTEST,
    WINDOW,
    Health,
    did_well,
    eject,
    failed,
    may_eject,
)

EVENTS = st.lists(st.tuples(st.booleans(), st.floats(0.0, WINDOW)), max_size=40)


@given(EVENTS)
def test_only_a_row_of_failures_in_a_short_time_ejects(events: list[tuple[bool, float]]) -> None:
    """Whoever may be ejected failed so often within the window, with nothing good in between."""
    health, now = Health(), 1000.0
    row: list[float] = []
    for good, pause in events:
        now += pause
        health = did_well(health) if good else failed(health, now)
        row = [] if good else [*row, now]
        if may_eject(health, 2, 0):
            assert len(row) >= ENOUGH
            assert now - row[-ENOUGH] <= WINDOW


@given(st.integers(1, 100), st.integers(0, 100))
def test_never_more_than_half_nor_the_last(replicas: int, ejected: int) -> None:
    """One of one is never ejected, and at least half of them stay."""
    if may_eject(Health(failures=ENOUGH), replicas, ejected):
        assert replicas - ejected - 1 >= replicas / 2
        assert replicas - ejected - 1 >= 1
    assert not may_eject(Health(failures=ENOUGH - 1), replicas, 0)


def test_a_row_that_takes_too_long_begins_anew() -> None:
    """Failures here and there are no reason."""
    health = Health()
    for number in range(20):
        health = failed(health, number * (WINDOW / 2))
        assert not may_eject(health, 2, 0)


@given(st.lists(st.floats(0.0, 2 * FORGIVEN), min_size=1, max_size=30))
def test_ejections_grow_until_all_is_forgiven(pauses: list[float]) -> None:
    """Each is twice as long as the one before, within bounds, unless the replica did well for long since."""
    health, now, before = Health(), 1000.0, 0.0
    for pause in pauses:
        now = max(now, health.until) + pause
        forgiven = now - health.until > FORGIVEN
        health = eject(health, now)
        seconds = health.until - now
        assert SHORTEST - 1e-6 <= seconds <= LONGEST + 1e-6
        assert abs(seconds - (SHORTEST if forgiven else min(2 * before, LONGEST))) < 1e-6
        assert health.failures == 0
        before = seconds
