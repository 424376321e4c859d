"""The base of the belief: what silences are like that an endpoint has not shown yet.

Two parts. What others saw says what silences there are in this cluster, bursts and nights among them. The distribution
that one rate with a Gamma prior makes (a Lomax) has a tail beyond all that anybody saw: it says rightly that a
silence which outlived all others may last, where a rate that is known well would promise its end.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

from zerotide.scaling.learning.gaps import EDGES, MIDDLES
from zerotide.scaling.learning.prior import Prior

WEIGHT = 3.0
"""How many silences the Lomax is worth."""
OTHERS = 16.0
"""How many what others saw is worth; both were chosen on the first two thirds of the traces of `make bench-policy`."""


@dataclass(frozen=True, slots=True)
class Base:
    """For the end of each bin, times the weight: the share that outlives it, and the mean of silences cut there."""

    weight: float
    outlive: tuple[float, ...]
    until_s: tuple[float, ...]


@lru_cache(maxsize=256)
def base_of(prior: Prior, weight: float = WEIGHT, others: float = OTHERS) -> Base:
    """Return the base that a prior makes; without others it is the Lomax alone."""
    others = others if prior.shares else 0.0
    outlive, until_s = [], []
    shorter = shorter_s = 0.0
    for index, edge in enumerate(EDGES):
        if prior.shares:
            shorter += prior.shares[index]
            shorter_s += prior.shares[index] * MIDDLES[index]
        longer = max(0.0, 1.0 - shorter)
        survives = (prior.scale_s / (prior.scale_s + edge)) ** prior.shape
        outlive.append(weight * survives + others * longer)
        until_s.append(weight * _mean_until(edge, prior) + others * (shorter_s + longer * edge))
    return Base(weight + others, tuple(outlive), tuple(until_s))


def _mean_until(timeout: float, prior: Prior) -> float:
    """Return the mean of a Lomax silence cut at the timeout: the integral of its survival."""
    power, log = prior.shape - 1, math.log1p(timeout / prior.scale_s)
    # Written so that nothing cancels out near a shape of 1, where the limit is the logarithm itself.
    return prior.scale_s * (-math.expm1(-power * log) / power if power else log)
