"""Windows in which an endpoint is kept awake by the clock: what they would have cost on its own requests."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

from zerotide.api.scalars import SECOND
from zerotide.api.spec_scaling import Scaling
from zerotide.scaling.hours import History
from zerotide.scaling.replay.simulate import Outcome, Rule, simulate
from zerotide.scaling.replay.trace import Arrivals
from zerotide.scaling.schedules import steps_of


class Clock(Protocol):
    """What keeps an endpoint awake; times are seconds of the epoch."""

    def openings(self, begin_s: float, end_s: float) -> Iterator[float]:
        """Yield when it begins to, within a time."""
        ...

    def open_s(self, at_s: float) -> float:
        """Return how long it still does, 0 where it does not."""
        ...


@dataclass(frozen=True, slots=True)
class Windows:
    """Windows of a spec: when each of them opens and closes, oldest first; none touches the next."""

    spans: tuple[tuple[float, float], ...]

    @classmethod
    def of(cls, scaling: Scaling, begin_s: float, end_s: float) -> Windows:
        """Return those that schedules open within a time, whatever else keeps replicas."""
        alone = scaling.model_copy(update={"min_replicas": 0, "override": None})
        steps = steps_of(alone, int(begin_s * SECOND), int(end_s * SECOND))
        edges = [*((from_us / SECOND, replicas > 0) for from_us, replicas in steps), (end_s, False)]
        spans: list[tuple[float, float]] = []
        for (low_s, kept), (high_s, _) in pairwise(edges):
            if kept and spans and spans[-1][1] == low_s:
                spans[-1] = (spans[-1][0], high_s)
            elif kept:
                spans.append((low_s, high_s))
        return cls(tuple(spans))

    def openings(self, begin_s: float, end_s: float) -> Iterator[float]:
        """Yield when they open within a time."""
        return (low_s for low_s, _ in self.spans if begin_s <= low_s < end_s)

    def open_s(self, at_s: float) -> float:
        """Return how long one is still open, 0 where none is."""
        number = bisect_right(self.spans, (at_s, float("inf"))) - 1
        return max(0.0, self.spans[number][1] - at_s) if number >= 0 else 0.0


def replay(history: History, cold_s: float, clock: Clock, beside: Rule) -> Outcome:
    """Return what windows come to with a rule beside them.

    A replica is started before each opening, whether a request comes or not: as if by one that nobody waits for.
    """
    arrivals = history.arrivals
    openings = [opens - history.begin_s for opens in clock.openings(history.begin_s, history.end_s)]
    starts = [opens - cold_s for opens in openings if opens > cold_s]
    requests = [*zip(arrivals.times, arrivals.services, strict=True), *((start, 0.0) for start in starts)]
    requests.sort()
    rule = _Within(beside, clock, history.begin_s, cold_s, starts)
    both = Arrivals(tuple(time for time, _ in requests), tuple(service for _, service in requests))
    outcome = simulate(both, history.span_s, cold_s, rule)
    waited = outcome.waited_s - rule.free * cold_s
    return Outcome(outcome.load_s, outcome.active_s, outcome.idle_s, waited, outcome.cold_starts - rule.free)


class _Within:
    """A rule, and no sleep within a window; counts the starts that no request waited for first."""

    def __init__(self, beside: Rule, clock: Clock, begin_s: float, cold_s: float, starts: list[float]) -> None:
        self._beside, self._clock, self._begin_s, self._cold_s, self._starts = beside, clock, begin_s, cold_s, starts
        self._waited_s: float | None = None
        self._ended_s, self._quiet_s = 0.0, 0.0
        self.free = 0

    def timeout_s(self, began_s: float, ended_s: float) -> float:
        """Return the longer of the two; a window that opens while its replica is asked for has opened."""
        if self._waited_s is not None and _has(self._starts, began_s - self._cold_s):
            self.free += 1
        elif self._waited_s is not None:
            self._beside.woke(self._waited_s)
        self._waited_s, self._ended_s = None, ended_s
        at_s = self._begin_s + ended_s
        left_s = self._clock.open_s(at_s)
        if not left_s and (ahead_s := self._clock.open_s(at_s + self._cold_s)):
            left_s = ahead_s + self._cold_s
        return max(self._beside.timeout_s(began_s, ended_s), left_s)

    def silence(self, gap_s: float) -> None:
        """Have the rule learn of it, once a request ends it."""
        self._quiet_s += gap_s
        if not _has(self._starts, self._ended_s + gap_s):
            self._beside.silence(self._quiet_s)
            self._quiet_s = 0.0

    def woke(self, waited_s: float) -> None:
        """Note that a busy period began with a start."""
        self._waited_s = waited_s


def _has(times: list[float], time: float) -> bool:
    index = bisect_left(times, time - 1e-6)
    return index < len(times) and times[index] <= time + 1e-6
