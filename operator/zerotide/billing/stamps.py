"""Read the API server's times; a zero time means that there is none."""

from __future__ import annotations

from zerotide.api.scalars import SECOND, parse_time


def stamp(text: str | None) -> int | None:
    """Return microseconds since the epoch, or None for an absent or zero time (year 1, or the epoch itself)."""
    if not text:
        return None
    us = parse_time(text)
    return us if us > 0 else None


def seconds(number: float | int | None) -> int:
    """Return seconds as whole microseconds; absent counts as 0."""
    return round((number or 0) * SECOND)
