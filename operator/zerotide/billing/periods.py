"""Periods as people name them, in their own time zone: half-open, so that they add up over every change of clocks."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo

from zerotide.api.scalars import SECOND
from zerotide.billing.errors import UnknownPeriod, UnknownZone
from zerotide.billing.rating import Period

FORMS = "today, yesterday, this or last week, month or year, 2026, 2026-11 or 2026-11-25"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def zone(name: str) -> tzinfo:
    """Return a time zone by its IANA name; raise UnknownZone."""
    if name == "UTC":
        return UTC
    try:
        return ZoneInfo(name)
    except (ValueError, OSError, LookupError) as error:
        raise UnknownZone(f"no time zone {name!r}: give an IANA name such as Europe/Rome") from error


def local(t_us: int, where: tzinfo) -> datetime:
    """Return an instant, in microseconds since the epoch, as clocks of a time zone show it."""
    return (_EPOCH + timedelta(microseconds=t_us)).astimezone(where)


def named_period(text: str, now_us: int, where: tzinfo = UTC) -> Period:
    """Return the period of a name, whole even where it has not ended yet; raise UnknownPeriod."""
    words = " ".join(text.lower().split())
    today = local(now_us, where).date()
    days = _relative(words, today) or _calendar(words)
    if days is None:
        raise UnknownPeriod(f"no period {text!r}: name {FORMS}")
    return Period(midnight(days[0], where), midnight(days[1], where))


def midnight(day: date, where: tzinfo = UTC) -> int:
    """Return the first instant of a day, in microseconds since the epoch."""
    # Where clocks skip midnight, the day begins when they do.
    first = datetime(day.year, day.month, day.day, tzinfo=where)
    return (first.astimezone(UTC) - _EPOCH) // timedelta(microseconds=1)


def month_of(t_us: int, where: tzinfo = UTC) -> Period:
    """Return the month that an instant lies in."""
    day = local(t_us, where).date()
    first = day.replace(day=1)
    return Period(midnight(first, where), midnight(_months(first, 1), where))


def seconds_aligned(period: Period) -> Period:
    """Return the period with its end moved up to a whole second."""
    return Period(period.start_us, -(-period.end_us // SECOND) * SECOND)


def _relative(words: str, today: date) -> tuple[date, date] | None:
    match words.split():
        case ["today"]:
            return today, today + timedelta(days=1)
        case ["yesterday"]:
            return today - timedelta(days=1), today
        case [("this" | "last") as which, "week"]:
            monday = today - timedelta(days=today.weekday() + (7 if which == "last" else 0))
            return monday, monday + timedelta(days=7)
        case [("this" | "last") as which, "month"]:
            first = _months(today.replace(day=1), -1 if which == "last" else 0)
            return first, _months(first, 1)
        case [("this" | "last") as which, "year"]:
            year = today.year - (which == "last")
            return date(year, 1, 1), date(year + 1, 1, 1)
    return None


def _calendar(words: str) -> tuple[date, date] | None:
    match = re.fullmatch(r"([0-9]{4})(?:-([0-9]{2}))?(?:-([0-9]{2}))?", words)
    if match is None:
        return None
    year, month, day = (int(part) if part else None for part in match.groups())
    assert year is not None
    try:
        first = date(year, month or 1, day or 1)
        if day:
            return first, first + timedelta(days=1)
        return first, _months(first, 1 if month else 12)
    except (ValueError, OverflowError):
        return None


def _months(first: date, number: int) -> date:
    year, month = divmod(first.year * 12 + first.month - 1 + number, 12)
    return date(year, month + 1, 1)
