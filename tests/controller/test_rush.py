"""How long news of starts waits, by how many there are."""

from __future__ import annotations

from zerotide.api.scalars import SECOND
from zerotide.controller.rush import EACH_US, FEW, LONG_US, MOST_US, Rush

NOW = 1_790_000_000 * SECOND


def test_few_starts_are_no_rush() -> None:
    """Each one beyond them takes its time, up to a bound."""
    rush = Rush()
    for number in range(FEW):
        rush.began(f"a/{number}", NOW)
    assert rush.wait_us(NOW) == 0
    rush.began("a/0", NOW)
    assert rush.wait_us(NOW) == 0, "one that is told twice is one"
    for number in range(10):
        rush.began(f"b/{number}", NOW)
    assert rush.wait_us(NOW) == 10 * EACH_US
    for number in range(9):
        rush.over(f"b/{number}")
    rush.over("c/1")
    assert rush.wait_us(NOW) == EACH_US
    for number in range(10_000):
        rush.began(f"c/{number}", NOW)
    assert rush.wait_us(NOW) == MOST_US


def test_a_start_that_takes_long_waits_for_something_else() -> None:
    """A thousand that find no room are no rush; one that begins anew counts anew."""
    rush = Rush()
    for number in range(100):
        rush.began(f"a/{number}", NOW)
    rush.began("a/0", NOW + LONG_US - 1)
    assert rush.wait_us(NOW + LONG_US - 1) == 92 * EACH_US
    assert rush.wait_us(NOW + LONG_US) == 0
    for number in range(FEW):
        rush.began(f"b/{number}", NOW + LONG_US)
    assert rush.wait_us(NOW + LONG_US) == EACH_US
