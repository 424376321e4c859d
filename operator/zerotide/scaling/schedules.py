"""Floors by the clock: `minReplicas`, windows that open again and again, and an override that holds for a while.

A window opens at a local time and stays open for a length of real time, so one that crosses a change of the clocks is
as long as any other. Replicas are asked for earlier by a lead, the time that they take to start.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from functools import lru_cache
from heapq import heappop, heappush
from itertools import takewhile
from zoneinfo import ZoneInfo

from zerotide.api.cron import parse_cron
from zerotide.api.scalars import HOUR, SECOND, parse_time
from zerotide.api.spec_scaling import Scaling
from zerotide.api.spec_schedules import Schedule

LONGEST_LEAD_US = HOUR
_DAYS_AHEAD = 370
"""How far the next opening is looked for; a window of a leap day is found when its year has come."""


class By(StrEnum):
    """What sets a floor."""

    MIN_REPLICAS = "MinReplicas"
    SCHEDULE = "Schedule"
    OVERRIDE = "Override"
    PREWARM = "Prewarm"


@dataclass(frozen=True, slots=True)
class Opening:
    """One opening of a schedule; times in microseconds, the lead before `start_us` comes on top."""

    name: str
    replicas: int
    start_us: int
    end_us: int
    lead_us: int

    @property
    def from_us(self) -> int:
        """Return when replicas are asked for."""
        return self.start_us - self.lead_us


@dataclass(frozen=True, slots=True)
class Floor:
    """Replicas that are kept, what asks for them, until when that is sure, and the window that decides or comes."""

    replicas: int
    by: By = By.MIN_REPLICAS
    reason: str = "minReplicas"
    until_us: int | None = None
    window: Opening | None = None


def floor_of(scaling: Scaling, lead_us: int, now_us: int) -> Floor:
    """Return the floor that holds now; an override that has not ended stands in place of all others."""
    lead_us = min(max(lead_us, 0), LONGEST_LEAD_US)
    windows = [window for schedule in scaling.schedules for window in _around(schedule, lead_us, now_us)]
    open_now = [window for window in windows if window.from_us <= now_us]
    coming = [window for window in windows if window.from_us > now_us]
    changes = [window.end_us for window in open_now] + [window.from_us for window in coming]
    highest = max(open_now, key=lambda window: (window.replicas, window.end_us), default=None)
    shown = highest or min(coming, key=lambda window: (window.from_us, -window.replicas), default=None)
    override = scaling.override
    if override is not None and now_us < (end_us := parse_time(override.until)):
        reason = f"an override until {override.until}"
        return Floor(override.min_replicas, By.OVERRIDE, reason, min([end_us, *changes]), shown)
    until_us = min(changes, default=None)
    if highest is not None and highest.replicas > scaling.min_replicas:
        return Floor(highest.replicas, By.SCHEDULE, f"schedule {highest.name}", until_us, shown)
    return Floor(scaling.min_replicas, until_us=until_us, window=shown)


def steps_of(scaling: Scaling, low_us: int, high_us: int) -> list[tuple[int, int]]:
    """Return the floor that holds at `low_us`, and each change of it before `high_us`, as (from, replicas).

    It is what `floor_of` says without a lead, worked out in one pass however often windows open.
    """
    override = scaling.override
    until_us = parse_time(override.until) if override is not None else low_us
    windows = sorted(window for schedule in scaling.schedules for window in _within(schedule, low_us, high_us))
    edges = {low_us, until_us, *(edge for start, end, _ in windows for edge in (start, end))}
    steps: list[tuple[int, int]] = []
    open_now: list[tuple[int, int]] = []
    number = 0
    for edge in sorted(edge for edge in edges if low_us <= edge < high_us):
        while number < len(windows) and windows[number][0] <= edge:
            heappush(open_now, (-windows[number][2], windows[number][1]))
            number += 1
        while open_now and open_now[0][1] <= edge:
            heappop(open_now)
        replicas = max(scaling.min_replicas, -open_now[0][0] if open_now else 0)
        if override is not None and edge < until_us:
            replicas = override.min_replicas
        if not steps or steps[-1][1] != replicas:
            steps.append((edge, replicas))
    return steps


def _within(schedule: Schedule, low_us: int, high_us: int) -> Iterator[tuple[int, int, int]]:
    """Yield the openings that are open at some instant of [low, high), as (start, end, replicas)."""
    length_us = schedule.duration.us
    zone, day = ZoneInfo(schedule.time_zone), timedelta(days=1)
    first = datetime.fromtimestamp((low_us - length_us) // SECOND, zone).date() - day
    starts = _openings(schedule, first, datetime.fromtimestamp(high_us // SECOND, zone).date() + day)
    for start_us in takewhile(lambda start: start < high_us, starts):
        if start_us + length_us > low_us:
            yield start_us, start_us + length_us, schedule.min_replicas


def _around(schedule: Schedule, lead_us: int, now_us: int) -> Iterator[Opening]:
    """Yield the newest opening that has begun, its lead included, if it is still open; and the next one."""
    length_us = schedule.duration.us
    zone = ZoneInfo(schedule.time_zone)
    today = datetime.fromtimestamp(now_us // SECOND, zone).date()
    newest = following = None
    first, last = today - timedelta(days=length_us // (24 * HOUR) + 2), today + timedelta(days=_DAYS_AHEAD)
    for start_us in _openings(schedule, first, last):
        if start_us - lead_us > now_us:
            following = start_us
            break
        newest = start_us
    if newest is not None and now_us < newest + length_us:
        yield Opening(schedule.name, schedule.min_replicas, newest, newest + length_us, lead_us)
    if following is not None:
        yield Opening(schedule.name, schedule.min_replicas, following, following + length_us, lead_us)


def _openings(schedule: Schedule, first: date, last: date) -> Iterator[int]:
    """Yield when the schedule opens, from a day on and up to another, in order."""
    cron = parse_cron(schedule.start)
    day = first
    while day <= last:
        if cron.on(day):
            yield from _openings_of(schedule.start, schedule.time_zone, day)
        day += timedelta(days=1)


@lru_cache(maxsize=8192)
def _openings_of(start: str, time_zone: str, day: date) -> tuple[int, ...]:
    """Return the openings of one local day in microseconds since the epoch, in order.

    A local time that is skipped lies after the gap by as much as it lay in it; one that comes twice is its first.
    """
    cron, zone = parse_cron(start), ZoneInfo(time_zone)
    moments = {
        int(datetime(day.year, day.month, day.day, hour, minute, tzinfo=zone).astimezone(UTC).timestamp()) * SECOND
        for hour in cron.hours
        for minute in cron.minutes
    }
    return tuple(sorted(moments))
