"""Decide when a replica that serves is to be pinged: once nobody has asked it anything for the interval, and again."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Pinged:
    """When a replica was pinged last, or first seen, and whether that failed."""

    at_us: int
    failed: bool = False


def due(before: Pinged, quiet_us: int | None, interval_us: int, now_us: int) -> bool:
    """Tell whether it is time; `quiet_us` is when its endpoint was last asked anything, None while that goes on.

    Both times are on the clock of `now_us`. One that fell must not put pings off for ever.
    """
    if quiet_us is None:
        return False
    since = max(before.at_us, quiet_us)
    return not since <= now_us < since + interval_us
