"""Ways to keep an endpoint, each run on the same requests: what it takes in replicas, and what requests wait for it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

from zerotide.scaling.advice import span
from zerotide.scaling.learning.prior import Prior
from zerotide.scaling.replay.fleet import Bounds, Served, serve
from zerotide.scaling.replay.rules import Fixed, Learned
from zerotide.scaling.replay.simulate import Prices, Rule
from zerotide.scaling.replay.synthetic import Dice
from zerotide.scaling.replay.trace import Arrivals, Uniform

MONTH_H = 730
"""Hours of a month."""
MONTH_S = MONTH_H * 3_600.0


@dataclass(frozen=True, slots=True)
class Workload:
    """Requests of a time, oldest first, and their tokens in all; the first comes at 0 or later."""

    name: str
    arrivals: Arrivals
    span_s: float
    input_tokens: int = 0
    output_tokens: int = 0

    @property
    def requests(self) -> int:
        """Return how many there are."""
        return len(self.arrivals.times)

    @property
    def tokens(self) -> int:
        """Return all tokens."""
        return self.input_tokens + self.output_tokens

    @property
    def months(self) -> float:
        """Return how many months it is."""
        return self.span_s / MONTH_S


@dataclass(frozen=True, slots=True)
class Way:
    """One way to keep an endpoint, and how it went; `timeout_s` is that of a fixed one, infinite for one that stays."""

    name: str
    served: Served
    timeout_s: float | None = None

    @property
    def always(self) -> bool:
        """Tell whether no replica ever leaves."""
        return self.timeout_s == math.inf


def compare(
    workload: Workload, cold_s: float, prices: Prices, bounds: Bounds, timeouts_s: Iterable[float], kept: Iterable[int]
) -> tuple[Way, ...]:
    """Return each way: as many replicas as there may be at all times, so many kept, each timeout, and the learner."""

    def run(bounds: Bounds, rule: Rule) -> Served:
        return serve(workload.arrivals, workload.span_s, cold_s, bounds, rule)

    made = [Way("always on", run(replace(bounds, kept=bounds.most), Fixed(math.inf)), math.inf)]
    made += [
        Way(kept_warm(number), run(replace(bounds, kept=number), Fixed(math.inf)))
        for number in sorted({number for number in kept if 0 < number < bounds.most})
    ]
    asleep = replace(bounds, kept=0)
    made += [
        Way(sleeps_after(timeout_s), run(asleep, Fixed(timeout_s)), timeout_s) for timeout_s in sorted(set(timeouts_s))
    ]
    made.append(Way("learned", run(asleep, Learned(Prior(), cold_s, prices))))
    return tuple(made)


def kept_warm(number: int) -> str:
    """Return the name of the way in which so many replicas stay."""
    return f"{number} kept warm"


def sleeps_after(timeout_s: float) -> str:
    """Return the name of the way with a fixed timeout."""
    return f"sleeps after {span(timeout_s)}"


def steady(rate_hour: float, service_s: float, span_s: float, uniform: Uniform) -> Arrivals:
    """Return requests that come at one rate and know nothing of each other (Poisson), served as long as each other."""
    dice, times, now_s = Dice(uniform), list[float](), 0.0
    while (now_s := now_s + dice.exponential(3_600.0 / rate_hour)) < span_s:
        times.append(now_s)
    return Arrivals(tuple(times), (service_s,) * len(times))
