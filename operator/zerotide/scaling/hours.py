"""Windows of hours in which an endpoint is kept awake: what a schedule would have cost on its own requests."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from zerotide.scaling.replay.rules import Fixed
from zerotide.scaling.replay.simulate import Outcome, Prices, busy, simulate
from zerotide.scaling.replay.trace import Arrivals

_LENGTHS = (2, 4, 6, 8, 10, 12, 16)
_HOUR_S = 3_600.0


@dataclass(frozen=True, slots=True)
class History:
    """What is known of an endpoint: its requests since `begin_s` (of the epoch), all times relative to that."""

    begin_s: float
    end_s: float
    arrivals: Arrivals

    @property
    def span_s(self) -> float:
        """Return how long it is."""
        return self.end_s - self.begin_s


@dataclass(frozen=True, slots=True)
class Hours:
    """A window of whole hours, in a zone: on all days, or on those of the week from Monday to Friday."""

    first: int
    length: int
    weekdays: bool
    zone: str

    def __str__(self) -> str:
        return f"{'Monday to Friday' if self.weekdays else 'every day'} {self.first:02}:00 for {self.length}h"

    @property
    def cron(self) -> str:
        """Return when it opens."""
        return f"0 {self.first} * * {'1-5' if self.weekdays else '*'}"

    def on(self, day: int) -> bool:
        """Tell whether it opens on a day, counted from Monday the first of January of the year 1."""
        return not self.weekdays or (day - 1) % 7 < 5

    def left_s(self, day: int, hour: float) -> float:
        """Return how long it is still open at a local time, 0 where it is not."""
        opened = day if hour >= self.first else day - 1
        since = (hour - self.first) % 24
        return (self.length - since) * _HOUR_S if since < self.length and self.on(opened) else 0.0

    def openings(self, begin_s: float, end_s: float) -> Iterator[float]:
        """Yield when it opens within a time of the epoch."""
        zone = ZoneInfo(self.zone)
        day = datetime.fromtimestamp(begin_s, zone).date()
        while (opens := datetime(day.year, day.month, day.day, self.first, tzinfo=zone).timestamp()) < end_s:
            if opens >= begin_s and self.on(day.toordinal()):
                yield opens
            day += timedelta(days=1)


def local(at_s: float, zone: str) -> tuple[int, float]:
    """Return the day, counted from the first of January of the year 1, and the hour with its fraction."""
    moment = datetime.fromtimestamp(at_s, ZoneInfo(zone))
    return moment.toordinal(), moment.hour + moment.minute / 60 + moment.second / _HOUR_S


def replay(history: History, cold_s: float, hours: Hours, beside_s: float) -> Outcome:
    """Return what a window comes to with a fixed timeout beside it.

    A replica is started before each opening, whether a request comes or not: as if by one that nobody waits for.
    """
    arrivals = history.arrivals
    openings = [opens - history.begin_s for opens in hours.openings(history.begin_s, history.end_s)]
    starts = [max(0.0, opens - cold_s) for opens in openings]
    requests = [*zip(arrivals.times, arrivals.services, strict=True), *((start, 0.0) for start in starts)]
    requests.sort()
    rule = _Within(beside_s, hours, history.begin_s, cold_s, starts)
    both = Arrivals(tuple(time for time, _ in requests), tuple(service for _, service in requests))
    outcome = simulate(both, history.span_s, cold_s, rule)
    waited = outcome.waited_s - rule.free * cold_s
    return Outcome(outcome.load_s, outcome.active_s, outcome.idle_s, waited, outcome.cold_starts - rule.free)


class _Within(Fixed):
    """A fixed timeout, and no sleep within a window; counts the starts that no request waited for first."""

    def __init__(self, timeout: float, hours: Hours, begin_s: float, cold_s: float, starts: list[float]) -> None:
        super().__init__(timeout)
        self._hours, self._begin_s, self._cold_s, self._starts = hours, begin_s, cold_s, starts
        self._woke = False
        self.free = 0

    def timeout_s(self, began_s: float, ended_s: float) -> float:
        """Return the longer of the two."""
        if self._woke and _has(self._starts, began_s - self._cold_s):
            self.free += 1
        self._woke = False
        left = self._hours.left_s(*local(self._begin_s + ended_s, self._hours.zone))
        return max(super().timeout_s(began_s, ended_s), left)

    def woke(self, waited_s: float) -> None:
        """Note that a busy period began with a start."""
        self._woke = True


def _has(times: list[float], time: float) -> bool:
    index = bisect_left(times, time - 1e-6)
    return index < len(times) and times[index] <= time + 1e-6


def find(history: History, cold_s: float, prices: Prices, timeout_s: float, zone: str) -> tuple[Hours, float]:
    """Return the window that seems best, and the timeout beside it, by the price of each silence apart."""
    quiet, index, times = [], 0, history.arrivals.times
    while index < len(times):
        period = busy(history.arrivals, index, None)
        index = period.following
        gap = (times[index] if index < len(times) else history.span_s) - period.ended_s
        quiet.append((gap, *local(history.begin_s + period.ended_s, zone)))
    break_even_s = cold_s * (1 + prices.worth)
    first_day, last_day = (local(at_s, zone)[0] for at_s in (history.begin_s, history.end_s))

    def cost_s(hours: Hours, beside_s: float) -> float:
        used, total_s = set(), 0.0
        for gap, day, hour in quiet:
            left_s = hours.left_s(day, hour)
            if left_s:
                used.add(day if hour >= hours.first else day - 1)
            awake_s = max(beside_s, left_s)
            total_s += gap if gap <= awake_s else awake_s + break_even_s
        unused = sum(hours.on(day) and day not in used for day in range(first_day, last_day + 1))
        return total_s + unused * hours.length * _HOUR_S

    candidates = [
        (Hours(first, length, weekdays, zone), beside_s)
        for weekdays in (False, True)
        for first in range(24)
        for length in _LENGTHS
        for beside_s in sorted({5.0, 60.0, timeout_s})
    ]
    return min(candidates, key=lambda each: cost_s(*each))
