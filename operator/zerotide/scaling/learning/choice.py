"""Choose the timeout of least expected cost from what is believed of an endpoint's silences.

The belief is a Dirichlet process: the silences that were seen, and with the weight of a few more its base, the
distribution that one rate with a Gamma prior makes (a Lomax). A sparse endpoint leans on the base, a busy one on
its own history. The base itself does not follow that history: its heavy tail says rightly that a silence which
outlived all others may last, where a rate that is known well would promise its end. Cost is counted in seconds of an
idle replica, so only ratios of prices matter.
"""

from __future__ import annotations

from dataclasses import dataclass

from zerotide.scaling.learning.gaps import EDGES, Gaps
from zerotide.scaling.learning.prior import Prior

WEIGHT = 3.0
"""How many silences the base is worth; chosen on the first two thirds of the traces of `make bench-policy`."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A timeout in seconds, and what is expected of each silence under it: the numbers that explain it."""

    timeout_s: float
    cold_share: float
    """Share of silences that end with a cold start."""
    idle_s: float
    """Seconds of an idle replica that are paid for."""
    cost_s: float
    """Both together, in seconds of an idle replica."""
    break_even_s: float
    """Idle seconds that one cold start is worth; no timeout is longer."""


def choose(gaps: Gaps, prior: Prior, break_even_s: float, weight: float = WEIGHT) -> Choice:
    """Return the best timeout where a cold start costs as much as `break_even_s` seconds of an idle replica.

    Never longer than that, so that no silence costs more than twice what one who knew its length would pay.
    """
    shape, scale = prior.shape, prior.scale_s
    everything = weight + gaps.seen
    best = Choice(0.0, 1.0, 0.0, break_even_s, break_even_s)
    shorter = shorter_s = 0.0
    for index, timeout in enumerate(EDGES):
        if timeout > break_even_s:
            break
        shorter += gaps.counts[index]
        shorter_s += gaps.totals[index]
        outlives = (scale / (scale + timeout)) ** shape
        longer = gaps.seen - shorter
        cold = (weight * outlives + longer) / everything
        idle = (weight * _mean_until(timeout, outlives, shape, scale) + shorter_s + longer * timeout) / everything
        cost = idle + break_even_s * cold
        if cost < best.cost_s:
            best = Choice(timeout, cold, idle, cost, break_even_s)
    return best


def expect(gaps: Gaps, prior: Prior, break_even_s: float, timeout_s: float, weight: float = WEIGHT) -> Choice:
    """Return what is expected under a timeout that somebody else chose, rounded up to the end of its bin."""
    shape, scale = prior.shape, prior.scale_s
    index = next((i for i, edge in enumerate(EDGES) if edge >= timeout_s), len(EDGES) - 1)
    timeout = EDGES[index]
    outlives = (scale / (scale + timeout)) ** shape
    longer = gaps.seen - sum(gaps.counts[: index + 1])
    everything = weight + gaps.seen
    cold = (weight * outlives + longer) / everything
    mean = _mean_until(timeout, outlives, shape, scale)
    idle = (weight * mean + sum(gaps.totals[: index + 1]) + longer * timeout) / everything
    return Choice(timeout_s, cold, idle, idle + break_even_s * cold, break_even_s)


def _mean_until(timeout: float, outlives: float, shape: float, scale: float) -> float:
    """Return the mean of a Lomax silence cut at the timeout: the integral of its survival."""
    if abs(shape - 1) < 1e-9:
        shape += 1e-6
    return (scale - (scale + timeout) * outlives) / (shape - 1)
