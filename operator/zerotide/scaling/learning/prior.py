"""What is believed of an endpoint before it has a history: what the others of its cluster are like."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from zerotide.scaling.learning.gaps import Gaps

_SHAPES = (0.3, 10.0)


@dataclass(frozen=True, slots=True)
class Prior:
    """A Gamma distribution of the rate at which silences end; `scale_s` in seconds, shape without a unit."""

    shape: float = 0.5
    scale_s: float = 300.0


def fit(endpoints: Sequence[Gaps]) -> Prior:
    """Return the prior that endpoints with a history speak for (empirical Bayes); one alone says little of others.

    The logarithms of their rates have about the mean and the variance 1/shape of a Gamma's, which unlike the
    moments of the rates themselves a single busy endpoint does not rule.
    """
    rates = [math.log(gaps.seen / gaps.total_s) for gaps in endpoints if gaps.seen >= 2 and gaps.total_s > 0]
    if len(rates) < 2:
        return Prior()
    mean = sum(rates) / len(rates)
    variance = sum((rate - mean) ** 2 for rate in rates) / (len(rates) - 1)
    low, high = _SHAPES
    shape = min(max(1 / variance, low), high) if variance else high
    return Prior(shape, shape / math.exp(mean))
