"""At which hours of the week an endpoint is woken: what is remembered, and what it foretells.

An hour here reaches from half an hour before it to half an hour after, because people begin at whole hours. It is told
apart by its place in the week of UTC, so one habit is two where the clocks change.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from zerotide.api.scalars import HOUR, MINUTE

HOURS = 168
WEEKS = 8
"""After so many weeks half of what was seen is forgotten."""
_HALF = HOUR // 2
_LEAST = 2
"""Weeks in which it was woken at an hour before that is a habit."""
_AHEAD = 26
"""Hours that are looked ahead."""
_WORD = re.compile(r"([0-9]{1,3}):([0-9]):([0-9]{1,2}):([0-9]{1,2})", re.ASCII)


@dataclass(frozen=True, slots=True)
class Hour:
    """In how many weeks it was woken within this hour, and the first and last minute (0 to 59) at which it was."""

    weeks: int
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Habits:
    """The hours at which it was woken since a time; `newest` is the last of them, counted from the epoch."""

    since_us: int
    hours: Mapping[int, Hour] = field(default_factory=dict)
    newest: int = 0

    def woken(self, at_us: int) -> Habits:
        """Return the habits with one more request that came after a long silence; the first of each hour counts."""
        number, minute = divmod(at_us + _HALF, HOUR)
        if number <= self.newest:
            return self
        kept = self._faded(at_us)
        hour = kept.hours.get(number % HOURS, Hour(0, 59, 0))
        minute //= MINUTE
        more = Hour(min(hour.weeks + 1, 9), min(hour.first, minute), max(hour.last, minute))
        return replace(kept, hours={**kept.hours, number % HOURS: more}, newest=number)

    def _faded(self, now_us: int) -> Habits:
        if now_us - self.since_us <= WEEKS * HOURS * HOUR:
            return self
        hours = {key: replace(hour, weeks=hour.weeks // 2) for key, hour in self.hours.items() if hour.weeks > 1}
        return replace(self, since_us=now_us - WEEKS // 2 * HOURS * HOUR, hours=hours)

    def written(self) -> str:
        """Return the hours as text: `hour:weeks:first:last`, bounded because a week has so many hours."""
        return " ".join(f"{key}:{hour.weeks}:{hour.first}:{hour.last}" for key, hour in sorted(self.hours.items()))


def read(text: str, since_us: int) -> Habits:
    """Return the habits of a text; what is no hour was not written by us and counts as nothing."""
    words = (_WORD.fullmatch(word) for word in text.split())
    numbers = [tuple(map(int, word.groups())) for word in words if word is not None]
    known = {key: Hour(weeks, first, last) for key, weeks, first, last in numbers if key < HOURS and first <= last < 60}
    return Habits(since_us, known)


@dataclass(frozen=True, slots=True)
class Prices:
    """What is weighed: how long a start takes, what the wait for one is worth in idle time, and the idle timeout."""

    lead_us: int
    worth_us: int
    idle_us: int


@dataclass(frozen=True, slots=True)
class Expected:
    """When requests are expected: a replica starts at `from_us`, to serve at `start_us`, and is kept until `end_us`."""

    from_us: int
    start_us: int
    end_us: int
    weeks: int
    of: int
    most_us: int
    """Time of a replica that it costs if nobody comes."""

    @property
    def confidence(self) -> float:
        """Return how likely they come; a week without them is assumed beside those that were seen."""
        return min(1.0, self.weeks / (self.of + 1))


def expected(habits: Habits, prices: Prices, now_us: int) -> Expected | None:
    """Return when requests are expected next, or are by now, where being awake then is worth what it costs."""
    return next((found for found in coming(habits, prices, now_us, _AHEAD) if worth_it(found, prices)), None)


def coming(habits: Habits, prices: Prices, now_us: int, hours: int) -> Iterator[Expected]:
    """Yield when requests are expected within so many hours, or are by now, whether or not that is worth a start."""
    begun = (habits.since_us + _HALF) // HOUR
    here = (now_us + _HALF) // HOUR
    for number in range(here - 1, here + hours):
        hour = habits.hours.get(number % HOURS)
        if hour is None or hour.weeks < _LEAST:
            continue
        start_us = number * HOUR - _HALF + hour.first * MINUTE
        end_us = number * HOUR - _HALF + (hour.last + 1) * MINUTE
        most_us = prices.lead_us + max(end_us - start_us, prices.idle_us)
        of = max((number - begun - 1) // HOURS, hour.weeks)
        found = Expected(start_us - prices.lead_us, start_us, end_us, hour.weeks, of, most_us)
        if now_us < end_us:
            yield found


def worth_it(found: Expected, prices: Prices) -> bool:
    """Tell whether a start ahead of requests that are expected is worth the time of a replica that it may waste."""
    likely = found.confidence
    idle_us = likely * (found.end_us - found.start_us) / 2 + (1 - likely) * found.most_us
    return likely * prices.worth_us > idle_us
