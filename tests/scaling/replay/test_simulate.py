"""Replays add up, and nobody beats the optimum, which is what trying everything finds."""

from __future__ import annotations

import math
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerotide.scaling.learning.prior import Prior
from zerotide.scaling.replay.ahead import Ahead
from zerotide.scaling.replay.failures import InvalidPrices
from zerotide.scaling.replay.optimum import optimum
from zerotide.scaling.replay.rules import Fixed, KubeAI, Learned
from zerotide.scaling.replay.simulate import LEAST, MOST, Prices, busy, simulate, total
from zerotide.scaling.replay.trace import Arrivals

PRICES = Prices(0.001, 0.01)


@st.composite
def some_arrivals(draw: st.DrawFn, most: int = 8) -> Arrivals:
    """Draw requests, some of which come together."""
    gaps = draw(st.lists(st.sampled_from((0.0, 1.0, 7.0, 40.0, 300.0, 5_000.0)), max_size=most))
    times, now = [], 0.0
    for gap in gaps:
        now += gap
        times.append(now)
    services = draw(st.lists(st.floats(0, 50), min_size=len(times), max_size=len(times)))
    return Arrivals(tuple(times), tuple(services))


class Told(Fixed):
    """Stay awake for ever, or not at all, as told for each silence in turn."""

    def __init__(self, stays: tuple[bool, ...]) -> None:
        super().__init__(0.0)
        self._stays = iter(stays)

    def timeout_s(self, began_s: float, ended_s: float) -> float:
        """Return what the next silence was told to do."""
        return math.inf if next(self._stays, False) else 0.0


@given(arrivals=some_arrivals(most=6), load=st.floats(0.1, 60))
def test_the_optimum_is_what_trying_everything_finds(arrivals: Arrivals, load: float) -> None:
    """All ways to stay or to sleep; whoever stays until the end pays for it, and is never best."""
    end = (arrivals.times[-1] if arrivals.times else 0.0) + 1_000
    tried = [
        simulate(arrivals, end, load, Told(stays)).cost(PRICES)
        for stays in product((False, True), repeat=max(0, len(arrivals.times) - 1))
    ]
    assert math.isclose(optimum(arrivals, load, PRICES), min(tried), abs_tol=1e-9)


@given(arrivals=some_arrivals(most=25), load=st.floats(0.1, 60), timeout=st.floats(0, 10_000))
def test_nobody_beats_the_optimum(arrivals: Arrivals, load: float, timeout: float) -> None:
    """Neither a fixed timeout nor KubeAI's rule nor ours."""
    end = (arrivals.times[-1] if arrivals.times else 0.0) + 100
    best = optimum(arrivals, load, PRICES)
    for rule in (Fixed(timeout), KubeAI(load), Learned(Prior(), load, PRICES)):
        assert simulate(arrivals, end, load, rule).cost(PRICES) >= best - 1e-9


@given(arrivals=some_arrivals(most=25), load=st.floats(0.1, 60), timeout=st.floats(0, 10_000), budget=st.floats(0, 4e4))
def test_prewarming_within_nothing_is_a_fixed_timeout(
    arrivals: Arrivals, load: float, timeout: float, budget: float
) -> None:
    """And nobody beats one who knows all requests and may start before them, which is never dearer than reacting."""
    best = optimum(arrivals, load, PRICES, ahead=True)
    assert best <= optimum(arrivals, load, PRICES) + 1e-9
    assert Ahead(load, timeout, PRICES, budget).run(arrivals, 0.0).cost(PRICES) >= best - 1e-9
    plain, known = Ahead(load, timeout, PRICES, 0.0).run(arrivals, 0.0), simulate(arrivals, 0.0, load, Fixed(timeout))
    assert plain.cold_starts == known.cold_starts and math.isclose(plain.waited_s, known.waited_s, abs_tol=1e-6)


@given(arrivals=some_arrivals(most=25), load=st.floats(0.1, 60), timeout=st.floats(0, 10_000))
def test_seconds_add_up(arrivals: Arrivals, load: float, timeout: float) -> None:
    """Each cold start is one load; nobody waits longer than a load; idle time has its limit."""
    end = (arrivals.times[-1] if arrivals.times else 0.0) + 100
    outcome = simulate(arrivals, end, load, Fixed(timeout))
    assert math.isclose(outcome.load_s, load * outcome.cold_starts, abs_tol=1e-6)
    assert outcome.waited_s <= load * len(arrivals.times) + 1e-6
    assert (outcome.cold_starts == 0) == (not arrivals.times)
    assert outcome.idle_s <= timeout * len(arrivals.times) + 1e-6
    always = simulate(arrivals, end, load, Fixed(math.inf))
    assert always.cold_starts == min(1, len(arrivals.times)) <= outcome.cold_starts or not arrivals.times


def test_one_endpoint_by_hand() -> None:
    """A wake with two that wait, a warm request, a silence that is too long, and the end of the trace."""
    arrivals = Arrivals((0.0, 4.0, 30.0, 100.0), (5.0, 5.0, 5.0, 5.0))
    outcome = simulate(arrivals, 200.0, 10.0, Fixed(20.0))
    assert (outcome.cold_starts, outcome.load_s, outcome.waited_s) == (2, 20.0, 10 + 6 + 10)
    assert (outcome.active_s, outcome.idle_s) == (5 + 5 + 5, 15 + 20 + 20)
    assert outcome.gpu_s == 90 and outcome.cost(Prices(1.0, 2.0)) == 90 + 2 * 26
    assert total([outcome, outcome]).gpu_s == 180
    assert busy(arrivals, 0, None) == (0.0, 9.0, 2, 0.0)


class Looking(KubeAI):
    """KubeAI's loop as its source has it: a history of looks, their mean, and scale-downs counted in a row."""

    def goes_at(self, requests: list[tuple[float, float]], woke: float) -> float:
        """Return when the model of the requests (came, ended) goes, if it started at `woke`."""
        history, consecutive, look = [0] * 60, 0, 0
        while True:
            time = look * self.INTERVAL_S
            history[look % 60] = sum(came <= time <= ended for came, ended in requests)
            if time > woke:
                if sum(history):
                    consecutive = 0
                elif consecutive == 3:
                    return time
                else:
                    consecutive += 1
            look += 1


@pytest.mark.parametrize(
    "requests",
    [
        pytest.param([(95.0, 123.0)], id="seen at 120"),
        pytest.param([(121.0, 128.0)], id="between two looks, and never seen"),
        pytest.param([(101.0, 108.0), (131.0, 139.0)], id="the second is not seen either, and keeps nothing"),
        pytest.param([(101.0, 108.0), (131.0, 141.0)], id="the second is seen"),
        pytest.param([(95.0, 123.0), (700.0, 705.0), (741.0, 744.0)], id="seen, seen, and not"),
    ],
)
def test_what_kubeai_sees(requests: list[tuple[float, float]]) -> None:
    """The rule says what the loop does; what waits for a start, here of 5 s, is seen too."""
    rule = KubeAI(5.0)
    rule.woke(5.0)
    began, goes = requests[0][0] + 5.0, 0.0
    for came, ended in requests:
        goes = ended + rule.timeout_s(max(came, began), ended)
    assert goes == Looking(5.0).goes_at(requests, requests[0][0])


@pytest.mark.parametrize("price", [0.0, -1.0, 1e-320, LEAST / 2, MOST * 2, 1e308, math.inf, -math.inf, math.nan])
def test_prices_with_which_nothing_can_be_reckoned(price: float) -> None:
    """Whichever it is: costs would be infinite or none, and what they are compared by no number."""
    with pytest.raises(InvalidPrices, match="a second of a replica"):
        Prices(gpu=price)
    with pytest.raises(InvalidPrices, match="in which a request waits"):
        Prices(waiting=price)


@given(
    arrivals=some_arrivals(most=25),
    load=st.floats(0.1, 60),
    prices=st.builds(Prices, st.floats(LEAST, MOST), st.floats(LEAST, MOST)),
)
def test_other_prices_give_costs_that_are_numbers(arrivals: Arrivals, load: float, prices: Prices) -> None:
    """And a learner that knows what to do."""
    end = (arrivals.times[-1] if arrivals.times else 0.0) + 1_000
    best = optimum(arrivals, load, prices)
    ours = simulate(arrivals, end, load, Learned(Prior(), load, prices)).cost(prices)
    assert math.isfinite(ours) and math.isfinite(prices.worth)
    assert best <= ours * (1 + 1e-9) and (best > 0) == bool(arrivals.times)
