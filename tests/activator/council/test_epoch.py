"""Times that members tell each other: requests keep their order, however long it takes to read the clocks."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.activator.council.world import BOUNDS, KEY
from zerotide.activator.admission.gate import Gate
from zerotide.activator.council.council import Council
from zerotide.activator.council.epoch import Epoch
from zerotide.activator.council.membership import Member
from zerotide.activator.council.messages import Ask, Report
from zerotide.kube import Clock

EPOCH_US = 1_790_000_000_000_000
WAITING = 20


class Slow:
    """Two clocks of one machine, on which some milliseconds pass each time that one of them is read."""

    def __init__(self, *passing: float) -> None:
        """`passing` are the seconds that pass at the first readings; three milliseconds do at the others."""
        self.seconds, self.passing = 1000.0, list(passing)

    def now(self) -> float:
        """Return seconds of the monotonic clock."""
        self.seconds += self.passing.pop(0) if self.passing else 0.003
        return self.seconds

    def now_us(self) -> int:
        """Return microseconds since the epoch."""
        return EPOCH_US + round(self.now() * 1e6)


def test_requests_of_a_report_keep_their_distances() -> None:
    """They came a millisecond apart, and to tell so takes longer; what is told is told again as it was."""
    clock = Slow()
    council = Council("a", lambda name, message: None, clock.now, clock.now_us)
    gate: Gate[Any] = Gate(BOUNDS)
    council.add(KEY, gate, BOUNDS)
    council.set_members([Member("a"), Member("b", leads=False)])
    council.attach("b")
    first_us = EPOCH_US + 900_000_000
    asks = [Ask(KEY, n, first_us + 1000 * n, None, 1, "x", False, 0, True) for n in range(WAITING)]
    council.receive("b", Report(KEY, {}, [], asks))
    arrivals = sorted(ticket.arrived for ticket in gate.waiting())
    assert [after - before for before, after in pairwise(arrivals)] == pytest.approx([0.001] * (WAITING - 1), abs=1e-6)


@given(st.integers(0, 10**12), st.integers(1, 10**9))
def test_there_and_back(at_us: int, later_us: int) -> None:
    """A moment is the same again, and a later one is later."""
    clock = Clock()
    epoch = Epoch(clock.monotonic, clock.now_us)
    at = at_us / 1e6
    assert epoch.at(epoch.of(at)) == pytest.approx(at, abs=1e-5)
    assert epoch.of(at + later_us / 1e6) > epoch.of(at)


def test_the_quickest_reading_counts() -> None:
    """A process that stands still between two readings is not believed."""
    clock = Slow(0.001, 5.0, 0.001, 0.001, 0.000_001, 0.000_001, 7.0, 0.5)
    epoch = Epoch(clock.now, clock.now_us)
    assert abs(epoch.of(1000.0) - EPOCH_US - 1_000_000_000) <= 1
