"""Run one endpoint's requests under a rule for falling asleep: one replica, which serves as many at once as come.

A request that finds it asleep waits for the load, and so do all that come meanwhile. The rule is asked at the end of
each busy period how long to stay awake, and told of each silence that ended, as the operator would be.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from zerotide.scaling.replay.failures import InvalidPrices
from zerotide.scaling.replay.trace import Arrivals

LEAST, MOST = 1e-15, 1e15
"""Prices with which sums and shares of costs stay numbers, whatever a trace holds."""


class Rule(Protocol):
    """What decides when to fall asleep; stateful, one for each endpoint."""

    def timeout_s(self, began_s: float, ended_s: float) -> float:
        """Return how long to stay awake after a busy period."""
        ...

    def silence(self, gap_s: float) -> None:
        """Learn of a silence that ended."""
        ...

    def woke(self, waited_s: float) -> None:
        """Learn how long all the requests together waited for a cold start."""
        ...


@dataclass(frozen=True, slots=True)
class Prices:
    """Dollars for a GPU-second, and for a second in which a request waits. Raises InvalidPrices."""

    gpu: float = 0.0014
    waiting: float = 0.01

    def __post_init__(self) -> None:
        for price, of in ((self.gpu, "of a replica"), (self.waiting, "in which a request waits")):
            if not LEAST <= price <= MOST:
                raise InvalidPrices(f"{price:g} for a second {of} cannot be reckoned with: only {LEAST:g} to {MOST:g}")

    @property
    def worth(self) -> float:
        """Return the idle seconds that a second of waiting is worth."""
        return self.waiting / self.gpu


@dataclass(frozen=True, slots=True)
class Outcome:
    """Seconds of a replica by what it did, seconds that requests waited, and cold starts."""

    load_s: float = 0.0
    active_s: float = 0.0
    idle_s: float = 0.0
    waited_s: float = 0.0
    cold_starts: int = 0

    @property
    def gpu_s(self) -> float:
        """Return all seconds of a replica."""
        return self.load_s + self.active_s + self.idle_s

    def cost(self, prices: Prices) -> float:
        """Return what it costs in dollars."""
        return prices.gpu * self.gpu_s + prices.waiting * self.waited_s


def total(outcomes: Iterable[Outcome]) -> Outcome:
    """Return the sum."""
    result = Outcome()
    for one in outcomes:
        result = Outcome(
            result.load_s + one.load_s,
            result.active_s + one.active_s,
            result.idle_s + one.idle_s,
            result.waited_s + one.waited_s,
            result.cold_starts + one.cold_starts,
        )
    return result


class Busy(NamedTuple):
    """A busy period: when a replica began and stopped to serve, which request is next, seconds waited for a load."""

    began_s: float
    ended_s: float
    following: int
    waited_s: float


def busy(arrivals: Arrivals, first: int, load_s: float | None) -> Busy:
    """Return the busy period that begins with a request; `load_s` is None where a replica is awake."""
    times, services = arrivals.times, arrivals.services
    count = len(times)
    began, waited, index = times[first], 0.0, first
    ended = began
    if load_s is not None:
        began = ended = times[first] + load_s
        while index < count and times[index] <= began:
            waited += began - times[index]
            ended = max(ended, began + services[index])
            index += 1
    while index < count and times[index] <= ended:
        ended = max(ended, times[index] + services[index])
        index += 1
    return Busy(began, ended, index, waited)


def simulate(arrivals: Arrivals, end_s: float, load_s: float, rule: Rule) -> Outcome:
    """Return what a rule makes of one endpoint's requests until `end_s`; it begins asleep."""
    times = arrivals.times
    load = active = idle = waited = 0.0
    colds, index, asleep = 0, 0, True
    while index < len(times):
        period = busy(arrivals, index, load_s if asleep else None)
        if asleep:
            load, waited, colds = load + load_s, waited + period.waited_s, colds + 1
            rule.woke(period.waited_s)
        active += period.ended_s - period.began_s
        index = period.following
        timeout = rule.timeout_s(period.began_s, period.ended_s)
        over = index >= len(times)
        gap = max(0.0, (end_s if over else times[index]) - period.ended_s)
        asleep = gap > timeout
        idle += min(gap, timeout)
        if not over:
            rule.silence(gap)
    return Outcome(load, active, idle, waited, colds)
