"""How often a starting pod is asked: often enough to cost the start nothing, seldom enough to cost the pod nothing."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from zerotide.activator.endpoints.dialler import LONGEST_PAUSE, PAUSE_FRACTION, SHORTEST_PAUSE, pause_after


@given(st.floats(0, 3600))
def test_asking_between_delays_a_start_by_two_percent_at_most(elapsed: float) -> None:
    assert SHORTEST_PAUSE <= pause_after(elapsed) <= max(SHORTEST_PAUSE, elapsed * PAUSE_FRACTION)
    assert pause_after(elapsed) <= LONGEST_PAUSE


def test_a_start_of_five_minutes_is_asked_a_thousand_times_at_most() -> None:
    elapsed, attempts = 0.0, 0
    while elapsed < 300:
        elapsed += pause_after(elapsed)
        attempts += 1
    assert 600 < attempts < 1200
