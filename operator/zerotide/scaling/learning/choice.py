"""Choose the timeout of least expected cost from what is believed of an endpoint's silences.

The belief is a Dirichlet process: the silences that were seen, and with the weight of a few more its base. A sparse
endpoint leans on the base, a busy one on its own history. The silence after a wake is another than those within a
burst, for a part of it has passed unseen while the replica started; where enough of those were seen they count
alone, and until then the belief about all silences stands in for as many as are missing. Cost is counted in seconds
of an idle replica, so only ratios of prices matter.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from zerotide.scaling.learning.base import Base
from zerotide.scaling.learning.gaps import EDGES, Gaps

APART = 100.0
"""How many silences of one kind the belief about all is worth; chosen as the weights of the base were."""

FIRM, PATIENT = 64.0, 2.0
"""How many silences that outlived break-even earn each break-even of a timeout, and how many it may be at most."""


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
    """Idle seconds that one cold start is worth."""


@dataclass(frozen=True, slots=True)
class Belief:
    """What is believed of the next silence; `kind` are those of its own kind, None where all are alike."""

    base: Base
    gaps: Gaps
    kind: Gaps | None = None

    def patience(self, break_even_s: float) -> float:
        """Return how many break-evens a timeout may be: one, until enough silences were longer to tell how they end."""
        return min(max(self.longer_than(break_even_s) / FIRM, 1.0), PATIENT)

    def longer_than(self, seconds: float) -> float:
        """Return how many silences of the next one's kind were longer."""
        return (self.gaps if self.kind is None else self.kind).longer_than(seconds)

    def at_edges(self) -> Iterator[tuple[float, float, float]]:
        """Yield for the end of each bin: it, the share of silences that outlives it, and their mean length up to it."""
        base, gaps, kind = self.base, self.gaps, self.kind
        everything = base.weight + gaps.seen
        apart = kind.seen / (APART + kind.seen) if kind is not None else 0.0
        shorter = shorter_s = like = like_s = 0.0
        for index, edge in enumerate(EDGES):
            shorter += gaps.counts[index]
            shorter_s += gaps.totals[index]
            longer = gaps.seen - shorter
            cold = (base.outlive[index] + longer) / everything
            idle = (base.until_s[index] + shorter_s + longer * edge) / everything
            if kind is not None and apart:
                like += kind.counts[index]
                like_s += kind.totals[index]
                longer = kind.seen - like
                cold += apart * (longer / kind.seen - cold)
                idle += apart * ((like_s + longer * edge) / kind.seen - idle)
            yield edge, cold, idle


def choose(belief: Belief, break_even_s: float) -> Choice:
    """Return the best timeout where a cold start costs as much as `break_even_s` seconds of an idle replica.

    Never longer than that, so that no silence costs more than twice what one who knew its length would pay. But who
    comes without memory, and oftener than once in a break-even, is worth more patience: where enough silences outlived
    it to tell how they end, no silence costs more than three times as much, and all together cost less.
    """
    best, longest_s = Choice(0.0, 1.0, 0.0, break_even_s, break_even_s), break_even_s * belief.patience(break_even_s)
    for timeout, cold, idle in belief.at_edges():
        if timeout > longest_s:
            break
        cost = idle + break_even_s * cold
        if cost < best.cost_s:
            best = Choice(timeout, cold, idle, cost, break_even_s)
    return best


def expect(belief: Belief, break_even_s: float, timeout_s: float) -> Choice:
    """Return what is expected under a timeout that somebody else chose, rounded up to the end of its bin."""
    edges = list(belief.at_edges())
    _, cold, idle = next((each for each in edges if each[0] >= timeout_s), edges[-1])
    return Choice(timeout_s, cold, idle, idle + break_even_s * cold, break_even_s)
