"""Windows of hours in which an endpoint is kept awake, and which of them seems best for its own requests."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from zerotide.scaling.replay.simulate import Prices, busy
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

    def open_s(self, at_s: float) -> float:
        """Return how long it is still open at a time of the epoch, 0 where it is not."""
        return self.left_s(*local(at_s, self.zone))

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


def find(history: History, cold_s: float, prices: Prices, timeout_s: float, zone: str) -> tuple[Hours, float]:
    """Return the window that seems best, and the timeout beside it, by the price of each silence apart."""
    week = _week(history, zone)
    break_even_s = cold_s * (1 + prices.worth)
    first_day, last_day = (local(at_s, zone)[0] for at_s in (history.begin_s, history.end_s))
    besides_s = sorted({5.0, 60.0, timeout_s})
    closed_s = {
        (beside_s, at): sum(_price(gap_s, beside_s, break_even_s) for gap_s, _ in silences.all)
        for beside_s in besides_s
        for at, silences in week.items()
    }

    def cost_s(hours: Hours, beside_s: float) -> float:
        used, total_s = set[int](), 0.0
        for (weekday, hour), silences in week.items():
            since, over = (hour - hours.first) % 24, hour < hours.first
            if since >= hours.length or (hours.weekdays and (weekday - over) % 7 >= 5):
                total_s += closed_s[beside_s, (weekday, hour)]
                continue
            used.update(day - over for day in silences.days)
            left_h, apart = hours.length - since, silences.all
            if left_h >= 2:
                total_s, apart = total_s + silences.short_s, silences.long
            for gap_s, part in apart:
                total_s += _price(gap_s, max(beside_s, (left_h - part) * _HOUR_S), break_even_s)
        unused = sum(hours.on(day) and day not in used for day in range(first_day, last_day + 1))
        return total_s + unused * hours.length * _HOUR_S

    candidates = [
        (Hours(first, length, weekdays, zone), beside_s)
        for weekdays in (False, True)
        for first in range(24)
        for length in _LENGTHS
        for beside_s in besides_s
    ]
    return min(candidates, key=lambda each: cost_s(*each))


@dataclass(slots=True)
class _Silences:
    """Those that began in one hour of the week, each with its length and the part of the hour that was over."""

    all: list[tuple[float, float]] = field(default_factory=list)
    long: list[tuple[float, float]] = field(default_factory=list)
    """Those longer than an hour: the others end within a window that stays open for an hour more."""
    short_s: float = 0.0
    days: set[int] = field(default_factory=set)


def _week(history: History, zone: str) -> dict[tuple[int, int], _Silences]:
    """Return the silences by weekday, 0 for Monday, and hour."""
    week: dict[tuple[int, int], _Silences] = {}
    index, times = 0, history.arrivals.times
    while index < len(times):
        period = busy(history.arrivals, index, None)
        index = period.following
        gap_s = (times[index] if index < len(times) else history.span_s) - period.ended_s
        day, hour = local(history.begin_s + period.ended_s, zone)
        found = week.setdefault(((day - 1) % 7, int(hour)), _Silences())
        found.all.append((gap_s, hour % 1))
        found.days.add(day)
        if gap_s > _HOUR_S:
            found.long.append((gap_s, hour % 1))
        else:
            found.short_s += gap_s
    return week


def _price(gap_s: float, awake_s: float, break_even_s: float) -> float:
    return gap_s if gap_s <= awake_s else awake_s + break_even_s
