"""When requests came: from the log of attempts, with those that were held put back to where they were."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from zerotide.api.scalars import SECOND
from zerotide.billing import arrivals
from zerotide.billing.arrivals import arrival_report
from zerotide.billing.ledger import Ledger, Records, Wake
from zerotide.billing.prices import PriceIndex, read_price_book
from zerotide.billing.rating import Period
from zerotide.billing.usage import OPEN_LIMIT_US, Attempt

INDEX = PriceIndex(read_price_book({"currency": "USD", "prices": []}))
PERIOD = Period(100 * SECOND, 1_000 * SECOND)
NOW = 2_000 * SECOND


def attempt(id_: str, at: float, until: float | None, number: int = 1, wake: str = "") -> Attempt:
    """Return an attempt; times in seconds."""
    ended = None if until is None else round(until * SECOND)
    return Attempt(
        id_, number, "n", "e", "n/c", "p", int(bool(wake)), wake, round(at * SECOND), ended, "completed", 1, 0, 1
    )


def report(*attempts: Attempt, wakes: Sequence[Wake] = (), now: int = NOW) -> list[tuple[float, float]]:
    """Return arrivals and services in seconds."""
    ledger = Ledger(Records("n", "e", "n/o", 0, {}, attempts, wakes=tuple(wakes)), ())
    made = arrival_report([ledger], INDEX, PERIOD, now)
    return [(came / SECOND, served / SECOND) for came, served in made.requests]


def test_in_order_and_within_the_period() -> None:
    """The end excluded, however the log is ordered."""
    told = report(attempt("c", 500, 502), attempt("a", 99, 200), attempt("b", 100, 101), attempt("d", 1_000, 1_001))
    assert told == [(100, 1), (500, 2)]


def test_what_was_held_came_with_the_wake() -> None:
    """A wake that nobody reported leaves it where the log has it."""
    wake = Wake("u", "w1", "n", "e", 300 * SECOND, "Request", 9 * SECOND, ())
    told = report(
        attempt("a", 309, 310, wake="w1"),
        attempt("b", 309.5, 311, wake="w1"),
        attempt("c", 400, 401, wake="w2"),
        wakes=[wake],
    )
    assert told == [(300, 1), (300, 1.5), (400, 1)]


@pytest.mark.parametrize("named", ["w1", "p"])
def test_a_wake_that_was_over_before_it_had_a_name(named: str) -> None:
    """Its requests name the wake before it, or their pod; they came with the newest that had begun."""
    wakes = [Wake("u", name, "n", "e", at * SECOND, "Request", SECOND, ()) for name, at in (("w1", 200), ("w2", 300))]
    assert report(attempt("a", 300.4, 302, wake=named), wakes=wakes) == [(300, 1.6)]
    assert report(attempt("a", 200.4, 202, wake=named), wakes=wakes) == [(200, 1.6)]
    assert report(attempt("a", 199, 202, wake="p")) == [(199, 3)]


def test_what_was_tried_again_is_one_request() -> None:
    """Served by all its attempts together."""
    assert report(attempt("a", 210, 215, 2), attempt("a", 200, 203, 1)) == [(200, 8)]


def test_what_has_not_ended() -> None:
    """It is served until now, or for as long as a request may take."""
    assert report(attempt("a", 200, None), now=250 * SECOND) == [(200, 50)]
    assert report(attempt("a", 200, None), now=NOW) == [(200, min(1_800, OPEN_LIMIT_US / SECOND))]


def test_the_newest_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """And the report says from when on it is whole."""
    monkeypatch.setattr(arrivals, "MOST", 2)
    ledger = Ledger(Records("n", "e", "n/o", 0, {}, tuple(attempt(str(t), t, t + 1) for t in (200, 300, 400))), ())
    made = arrival_report([ledger], INDEX, PERIOD, NOW)
    assert [came // SECOND for came, _ in made.requests] == [300, 400] and made.from_us == 300 * SECOND
    assert arrival_report([], INDEX, PERIOD, NOW).requests == ()
