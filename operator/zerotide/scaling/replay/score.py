"""Judge rules on the last third of traces: cells, and what they come to together.

A cell is a trace with one length of a cold start and one value of a second of waiting. Rules that learn run through
the first two thirds before; the fixed timeout to beat is chosen there.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

from zerotide.scaling.learning.prior import Prior
from zerotide.scaling.replay.optimum import optimum
from zerotide.scaling.replay.rules import (
    FIXED_S,
    KNATIVE_S,
    WEIGHTS,
    Fixed,
    KubeAI,
    Learned,
    MakeRule,
    Weights,
    prior_of,
    silences,
)
from zerotide.scaling.replay.simulate import Outcome, Prices, simulate, total
from zerotide.scaling.replay.trace import Trace

COLD_S = (5.0, 30.0, 60.0)
PRICES = (Prices(waiting=0.001), Prices(waiting=0.01), Prices(waiting=0.05))
CURVE_S = (0, 5, 10, 20, 30, 45, 60, 90, 120, 180, 240, 300, 450, 600, 900, 1200, 1800, 3600, 7200, 21600, math.inf)
"""Fixed timeouts between which the waiting at equal GPU-seconds is interpolated."""
_NOTHING_S = 1e-6


@dataclass(frozen=True, slots=True)
class Cell:
    """What each rule comes to on one held-out third; costs in dollars."""

    trace: str
    cold_s: float
    prices: Prices
    ours: Outcome
    fixed: dict[float, Outcome]
    knative: Outcome
    kubeai: Outcome
    chosen_s: float
    """The fixed timeout that was cheapest before."""
    optimum: float
    known_rate: float
    """The cost of one who knows each endpoint's rate, and that nothing more can be known."""

    @property
    def cost(self) -> float:
        """Return what ours costs."""
        return self.ours.cost(self.prices)

    @property
    def vs_chosen(self) -> float:
        """Return ours against the fixed timeout that was chosen before."""
        return self.cost / self.fixed[self.chosen_s].cost(self.prices)

    @property
    def hindsight_s(self) -> float:
        """Return the fixed timeout that would have been cheapest."""
        return cheapest({timeout: self.fixed[timeout] for timeout in FIXED_S}, self.prices)

    @property
    def vs_hindsight(self) -> float:
        """Return ours against the best fixed timeout in hindsight."""
        return self.cost / self.fixed[self.hindsight_s].cost(self.prices)

    @property
    def vs_optimum(self) -> float:
        """Return ours against the optimum."""
        return self.cost / self.optimum

    @property
    def wait_at_equal_gpu(self) -> float:
        """Return our waiting against that of fixed timeouts, mixed so that they take as many GPU-seconds."""
        theirs = _waiting_at(self.fixed.values(), self.ours.gpu_s)
        if theirs < _NOTHING_S:
            return 1.0 if self.ours.waited_s < _NOTHING_S else math.inf
        return self.ours.waited_s / theirs


def _waiting_at(curve: Iterable[Outcome], gpu_s: float) -> float:
    points = sorted((outcome.gpu_s, outcome.waited_s) for outcome in curve)
    if gpu_s <= points[0][0]:
        return points[0][1]
    for (low, waits), (high, waits_less) in pairwise(points):
        if gpu_s <= high:
            share = (gpu_s - low) / (high - low) if high > low else 1.0
            return waits + (waits_less - waits) * share
    return points[-1][1]


def cheapest(outcomes: Mapping[float, Outcome], prices: Prices) -> float:
    """Return the timeout of the cheapest outcome."""
    return min(outcomes, key=lambda timeout: outcomes[timeout].cost(prices))


def run(trace: Trace, cold_s: float, rules: Sequence[MakeRule], before: Trace | None = None) -> Outcome:
    """Return what rules, one for each endpoint, come to on a trace after they ran through what was before it."""
    outcomes = []
    for index, (arrivals, make) in enumerate(zip(trace.endpoints, rules, strict=True)):
        rule = make()
        if before is not None:
            simulate(before.endpoints[index], before.end_s, cold_s, rule)
        outcomes.append(simulate(arrivals, trace.end_s, cold_s, rule))
    return total(outcomes)


def fixed(trace: Trace, cold_s: float, timeout_s: float) -> Outcome:
    """Return what one timeout for all endpoints comes to."""
    return run(trace, cold_s, [partial(Fixed, timeout_s)] * len(trace.endpoints))


def learned(
    before: Trace, after: Trace, prior: Prior, cold_s: float, prices: Prices, weights: Weights = WEIGHTS
) -> Outcome:
    """Return what ours comes to on `after`, once it learned on `before`."""
    return run(after, cold_s, [partial(Learned, prior, cold_s, prices, weights)] * len(after.endpoints), before)


def cells(
    before: Trace,
    after: Trace,
    cold: Sequence[float] = COLD_S,
    values: Sequence[Prices] = PRICES,
) -> list[Cell]:
    """Return the cells of a trace whose rules learn on `before` and are judged on `after`."""
    made = []
    for cold_s in cold:
        prior = prior_of(before.endpoints, cold_s)
        curve = {float(timeout): fixed(after, cold_s, timeout) for timeout in CURVE_S}
        earlier = {float(timeout): fixed(before, cold_s, timeout) for timeout in FIXED_S}
        knative = fixed(after, cold_s, KNATIVE_S)
        kubeai = run(after, cold_s, [partial(KubeAI, cold_s)] * len(after.endpoints))
        for prices in values:
            made.append(
                Cell(
                    trace=after.name,
                    cold_s=cold_s,
                    prices=prices,
                    ours=learned(before, after, prior, cold_s, prices),
                    fixed=curve,
                    knative=knative,
                    kubeai=kubeai,
                    chosen_s=cheapest(earlier, prices),
                    optimum=sum(optimum(arrivals, cold_s, prices) for arrivals in after.endpoints),
                    known_rate=known_rate(before, after, cold_s, prices).cost(prices),
                )
            )
    return made


def known_rate(before: Trace, after: Trace, cold_s: float, prices: Prices) -> Outcome:
    """Return what the best rule comes to that knows each endpoint's rate, where silences have no memory.

    It always sleeps at once, or never, by which is cheaper; no other rule does better on Poisson arrivals. The load
    itself counts for nothing in that: who never sleeps pays for the same time.
    """
    rules: list[MakeRule] = []
    for early, late in zip(before.endpoints, after.endpoints, strict=True):
        first, second = silences(early), silences(late)
        rate = (first.seen + second.seen) / ((first.total_s + second.total_s) or math.inf)
        waiting_s = cold_s * prices.worth * (1 + rate * cold_s / 2)
        rules.append(partial(Fixed, math.inf if rate * waiting_s >= 1 else 0.0))
    return run(after, cold_s, rules)
