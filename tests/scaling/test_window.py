"""A window remembers every number that was wanted within its span, and says when one leaves it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from zerotide.scaling.window import Window

steps = st.lists(st.tuples(st.integers(0, 20), st.integers(0, 4)), max_size=25)


@given(steps=steps, span=st.integers(0, 60), keep=st.integers(60, 80))
def test_against_a_model(steps: list[tuple[int, int]], span: int, keep: int) -> None:
    """A list of all samples says the same."""
    window, samples, now = Window(), [], 1000
    for pause, wanted in steps:
        now += pause
        window = window.add(now, wanted, keep)
        samples.append((now, wanted))
    begin = now - span
    expected = set()
    for index, (_, wanted) in enumerate(samples):
        ends = samples[index + 1][0] if index + 1 < len(samples) else None
        if ends is None or ends > begin:
            expected.add(wanted)
    covered = bool(samples) and samples[0][0] <= begin
    assert set(window.within(now, span, -1)) == (expected if covered else expected | {-1})


@given(steps=steps, span=st.integers(1, 60))
def test_the_next_change_is_when_the_numbers_change(steps: list[tuple[int, int]], span: int) -> None:
    """Not before, and then or never."""
    window, now = Window(), 1000
    for pause, wanted in steps:
        now += pause
        window = window.add(now, wanted, 100)
    due = window.next_change_us(now, span)
    present = set(window.within(now, span, -1))
    horizon = due if due is not None else now + 200
    for later in range(now, horizon):
        assert set(window.within(later, span, -1)) == present
    assert due is None or due > now


def test_a_clock_that_goes_back_loses_nothing() -> None:
    """What was wanted goes back with it, and what is wanted now counts now."""
    window = Window().add(100, 1, 50).add(140, 3, 50).add(90, 2, 50)
    assert window.steps == ((50, 1), (90, 3), (90, 2))
    assert window.within(90, 0, 7) == [2] and window.within(90, 30, 7) == [1, 3, 2]
