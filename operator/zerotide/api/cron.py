"""Cron expressions: five fields that a moment of local time matches or not.

Minute, hour, day of the month, month, day of the week (0 and 7 are Sunday). A field is `*`, a number, a range, each
with a step if need be, or a list of these; a range that ends before it begins runs over the end, as 22-6 does. Where
both days are restricted, either suffices.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from functools import lru_cache

from zerotide.api.failures import InvalidCron

_NUMBERS = ("[0-5]?[0-9]", "(1?[0-9]|2[0-3])", "([1-9]|[12][0-9]|3[01])", "([1-9]|1[0-2])", "[0-7]")
_LIMITS = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 6))
_NAMES = ("minute", "hour", "day of the month", "month", "day of the week")


def _field(number: str) -> str:
    item = rf"(\*|{number}(-{number})?)(/[1-9][0-9]?)?"
    return rf"{item}(,{item})*"


PATTERN_CRON = "^" + " ".join(_field(number) for number in _NUMBERS) + "$"


@dataclass(frozen=True, slots=True)
class Cron:
    """What an expression admits."""

    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    """Monday is 0, as Python counts."""
    either_day: bool
    """Both days are restricted, so that either suffices."""

    def on(self, day: date) -> bool:
        """Tell whether anything begins on a day."""
        if day.month not in self.months:
            return False
        of_month, of_week = day.day in self.days, day.weekday() in self.weekdays
        return of_month or of_week if self.either_day else of_month and of_week


@lru_cache(maxsize=1024)
def parse_cron(text: str) -> Cron:
    """Read an expression. Raises InvalidCron, which names the field."""
    fields = text.split(" ")
    if len(fields) != len(_NAMES):
        raise InvalidCron(f"{text!r} is no cron expression: write five fields, {', '.join(_NAMES)}, as in 0 8 * * 1-5")
    minutes, hours, days, months, weekdays = (
        _values(field, low, high, name) for field, (low, high), name in zip(fields, _LIMITS, _NAMES, strict=True)
    )
    restricted = not fields[2].startswith("*") and not fields[4].startswith("*")
    return Cron(minutes, hours, days, months, frozenset((day + 6) % 7 for day in weekdays), restricted)


def _values(field: str, low: int, high: int, name: str) -> frozenset[int]:
    values: set[int] = set()
    for item in field.split(","):
        span, slash, step = item.partition("/")
        first, dash, last = span.partition("-")
        if span == "*":
            begin, end = low, high
        else:
            begin = _number(first, low, high, name)
            end = _number(last, low, high, name) if dash else high if slash else begin
            if high == 6 and last == "7" and first != "7":
                end = 7  # the Sunday at the end of a week, or 0-7 would be a single day
        size = high - low + 1
        count = end - begin + 1 if end >= begin else end - begin + size + 1
        values.update(
            low + (begin - low + offset) % size for offset in range(0, count, _step(step, name) if slash else 1)
        )
    return frozenset(values)


def _number(text: str, low: int, high: int, name: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 2):
        raise InvalidCron(f"{text!r} is no number of the {name}")
    # Sunday is 7 as well as 0.
    value = 0 if high == 6 and text == "7" else int(text)
    if not low <= value <= high:
        raise InvalidCron(f"{text} is no {name}: it goes from {low} to {high}")
    return value


def _step(text: str, name: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 2 and not text.startswith("0")):
        raise InvalidCron(f"{text!r} is no step of the {name}: write a number from 1 to 99")
    return int(text)
