"""What is believed of an endpoint before it has a history: what the others of its cluster are like."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from zerotide.scaling.learning.gaps import Gaps

_SHAPES = (0.3, 10.0)


@dataclass(frozen=True, slots=True)
class Prior:
    """A Gamma distribution of the rate at which silences end, and what others saw.

    `scale_s` is in seconds, the shape has no unit. `shares` are the shares of others' silences by bin, each endpoint
    as much as the next, empty where there are none; `waiting` is how many wait for their cold starts.
    """

    shape: float = 0.5
    scale_s: float = 300.0
    shares: tuple[float, ...] = ()
    waiting: float = 1.0


def fit(endpoints: Sequence[Gaps], waiting: Sequence[float] = ()) -> Prior:
    """Return the prior that endpoints with a history speak for (empirical Bayes); one alone says little of others.

    The logarithms of their rates have about the mean and the variance 1/shape of a Gamma's, which unlike the
    moments of the rates themselves a single busy endpoint does not rule.
    """
    known = [gaps for gaps in endpoints if gaps.seen >= 2 and gaps.total_s > 0]
    if len(known) < 2:
        return Prior()
    rates = [math.log(gaps.seen / gaps.total_s) for gaps in known]
    mean = sum(rates) / len(rates)
    variance = sum((rate - mean) ** 2 for rate in rates) / (len(rates) - 1)
    low, high = _SHAPES
    shape = min(max(1 / variance, low), high) if variance else high
    shares = tuple(sum(column) / len(known) for column in zip(*(_shares(gaps) for gaps in known), strict=True))
    return Prior(shape, shape / math.exp(mean), shares, sum(waiting) / len(waiting) if waiting else 1.0)


def _shares(gaps: Gaps) -> list[float]:
    return [count / gaps.seen for count in gaps.counts]
