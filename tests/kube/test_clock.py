"""The clock of a process: it never jumps by itself, and follows the machine's where it is told to."""

from __future__ import annotations

import time

from hypothesis import given, settings
from hypothesis import strategies as st

from zerotide.kube.clock import SET_US, Clock


class Wall:
    """The machine's wall clock, set by so many microseconds."""

    def __init__(self) -> None:
        self.set_us = 0

    def __call__(self) -> int:
        return time.time_ns() + self.set_us * 1000

    def now_us(self) -> int:
        """Return what it shows."""
        return self() // 1000


STEPS = st.lists(st.integers(-(10**13), 10**13), max_size=12)


@settings(deadline=None)
@given(steps=STEPS)
def test_it_follows_every_step_and_nothing_else(steps: list[int]) -> None:
    """What it says is what the wall says, as near as the two can be read; all steps together are that of the wall."""
    wall = Wall()
    clock = Clock(wall_ns=wall)
    followed = 0
    for step in steps:
        wall.set_us += step
        before = clock.now_us()
        by = clock.follow()
        followed += by
        assert by == 0 or abs(by) >= SET_US
        assert clock.now_us() >= before + by, "but for the step it goes on as before"
        assert clock.follow() == 0, "a step is told once"
        assert abs(clock.now_us() - wall.now_us()) < 2 * SET_US
    assert abs(followed - wall.set_us) < 2 * SET_US


def test_it_stays_as_it_is_until_it_is_told() -> None:
    """Between two looks nothing that is measured jumps."""
    wall = Wall()
    clock = Clock(wall_ns=wall)
    before = clock.now_us()
    wall.set_us = 10**10
    assert before <= clock.now_us() < before + 10**9
    assert abs(clock.follow() - 10**10) < SET_US and clock.now_us() > before + 10**9


def test_small_steps_add_up() -> None:
    """A clock that is put right a little again and again is followed in the end."""
    wall = Wall()
    clock = Clock(wall_ns=wall)
    followed = []
    for _ in range(10):
        wall.set_us += SET_US // 4
        followed.append(clock.follow())
    assert 0 in followed and abs(sum(followed) - wall.set_us) < SET_US


def test_one_that_is_given_its_offset_reads_no_wall() -> None:
    """It is comparable with another process of the machine."""
    first = Clock()
    second = Clock(first.offset_us)
    assert first.now_us() <= second.now_us() <= first.now_us()
