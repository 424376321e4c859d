"""What replays come to: cells, the floor for Poisson arrivals, and the verdict over all of them."""

from __future__ import annotations

import math
import random
from functools import partial

import pytest

from zerotide.scaling.replay.rules import Learned, prior_of
from zerotide.scaling.replay.score import PRICES, Cell, cells, fixed, known_rate, learned, run
from zerotide.scaling.replay.simulate import Outcome, Prices
from zerotide.scaling.replay.synthetic import make
from zerotide.scaling.replay.trace import Arrivals, Trace
from zerotide.scaling.replay.verdict import floor, verdict

CURVE = {30.0: Outcome(idle_s=100, waited_s=50), 60.0: Outcome(idle_s=200, waited_s=30)}


def cell(ours: Outcome, curve: dict[float, Outcome] = CURVE) -> Cell:
    """Return a cell with these outcomes at a price of 1 and 1."""
    whole = {float(timeout): curve[60.0] for timeout in (120, 300, 600, 900, 1200)} | curve
    return Cell("poisson", 5.0, Prices(1.0, 1.0), ours, whole, ours, ours, 60.0, 100.0, 120.0)


def test_a_cell_by_hand() -> None:
    """Costs, the best in hindsight, and waiting held against a mixture of two timeouts."""
    one = cell(Outcome(idle_s=125, waited_s=9))
    assert one.cost == 134 and one.hindsight_s == 30
    assert one.vs_chosen == 134 / 230 and one.vs_hindsight == 134 / 150 and one.vs_optimum == 1.34
    assert one.wait_at_equal_gpu == pytest.approx(9 / 45)
    assert cell(Outcome(idle_s=10, waited_s=100)).wait_at_equal_gpu == 2.0
    assert cell(Outcome(idle_s=900, waited_s=60)).wait_at_equal_gpu == 2.0
    nothing = {30.0: Outcome(idle_s=100), 60.0: Outcome(idle_s=200)}
    assert cell(Outcome(idle_s=150), nothing).wait_at_equal_gpu == 1.0
    assert cell(Outcome(idle_s=150, waited_s=1), nothing).wait_at_equal_gpu == math.inf


def every(gap_s: float, begin_s: float, requests: int) -> Arrivals:
    """Return requests that come by the clock."""
    return Arrivals(tuple(begin_s + gap_s * number for number in range(requests)), (1.0,) * requests)


def test_what_is_judged_on_was_not_known_before() -> None:
    """Rules learn, others' silences are taken and a timeout is chosen on what was before, and on nothing else."""
    before = Trace("t", 0.0, 9_000.0, (every(100.0, 0.0, 90), every(110.0, 0.0, 80)))
    after = Trace("t", 9_000.0, 15_000.0, (every(1_000.0, 9_000.0, 6), every(900.0, 9_100.0, 6)))
    prices = Prices(0.001, 0.01)
    (one,) = cells(before, after, [30.0], [prices])
    assert (one.chosen_s, one.hindsight_s) == (120.0, 30.0)
    prior, hindsight = (prior_of(trace.endpoints, 30.0) for trace in (before, after))
    ours = learned(before, after, prior, 30.0, prices)
    ignorant = run(after, 30.0, [partial(Learned, prior, 30.0, prices)] * 2)
    assert one.ours == ours not in (learned(before, after, hindsight, 30.0, prices), ignorant)
    assert one.knative == fixed(after, 30.0, 60.0) == one.fixed[60.0], "Knative's own default"


def test_the_verdict() -> None:
    """Geometric means of ratios, and a floor only where there are Poisson arrivals."""
    judged = [cell(Outcome(idle_s=125, waited_s=9)), cell(Outcome(idle_s=200, waited_s=30))]
    told = verdict(judged)
    assert told.vs_chosen_fixed_max == 1.0 and told.cells == 2
    assert told.vs_chosen_fixed_geo == pytest.approx(math.sqrt(134 / 230))
    assert told.poisson_vs_floor == pytest.approx(math.sqrt(134 * 230) / 120)
    assert verdict(judged, poisson="other").poisson_vs_floor is None


def test_the_floor_for_poisson_arrivals() -> None:
    """It is worst where idle time and cold starts cost the same, and nothing at both ends."""
    assert floor(1.0) == pytest.approx(1 / (1 - math.exp(-1)))
    assert max(floor(x / 100) for x in range(1, 1_000)) == floor(1.0)
    assert floor(1e-9) == pytest.approx(1) and floor(50.0) == pytest.approx(1)


def test_who_knows_the_rate_comes_to_the_floor() -> None:
    """On a long Poisson trace the best rule costs about what theory says, and ours little more."""
    before, after = make("poisson", random.Random(5), endpoints=6).held_out()
    (one,) = cells(before, after, [30.0], [PRICES[1]])
    known = known_rate(before, after, 30.0, PRICES[1]).cost(PRICES[1])
    assert one.known_rate == known and 1.0 <= known / one.optimum < 1.6
    assert one.cost < 1.1 * known
    assert one.vs_chosen < 1.02
