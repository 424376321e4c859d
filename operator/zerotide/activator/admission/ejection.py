"""Which replicas get nothing for a while: those that failed again and again, never more than half of all.

Times are seconds of a monotonic clock. What a replica was ejected for is not forgotten with its return: the next
ejection is longer, unless it did well for long.
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

ENOUGH = 5
"""Failures in a row that eject a replica; one answer below 500 ends a row."""
WINDOW = 30.0
"""In which they must happen."""
SHORTEST, LONGEST = 5.0, 300.0
"""The first ejection, and the longest; each is twice as long as the one before."""
FORGIVEN = 300.0
"""Time after an ejection without another one, after which the next one is short again."""


class Failure(StrEnum):
    """How a replica failed."""

    CONNECT = "connect"
    """There was no connection."""
    LOST = "lost"
    """The answer did not come, or was no HTTP."""
    CUT = "cut"
    """The answer broke off."""
    STATUS = "status"
    """The answer was a 5xx."""


class Health(NamedTuple):
    """What is known of a replica's failures."""

    failures: int = 0
    """In a row."""
    since: float = 0.0
    """When the row began."""
    ejections: int = 0
    until: float = 0.0
    """Until when it is ejected, or was the last time."""


def failed(health: Health, now: float) -> Health:
    """Return a replica's health after one more failure."""
    if not health.failures or now - health.since > WINDOW:
        return health._replace(failures=1, since=now)
    return health._replace(failures=health.failures + 1)


def did_well(health: Health) -> Health:
    """Return a replica's health after a good answer."""
    return health._replace(failures=0)


def may_eject(health: Health, replicas: int, ejected: int) -> bool:
    """Tell whether a replica is to be ejected, `ejected` of all `replicas` being so already."""
    return health.failures >= ENOUGH and 2 * (ejected + 1) <= replicas


def eject(health: Health, now: float) -> Health:
    """Return the health of a replica that is ejected now."""
    ejections = 1 if now - health.until > FORGIVEN else health.ejections + 1
    seconds = min(SHORTEST * 2.0 ** min(ejections - 1, 16), LONGEST)
    return Health(ejections=ejections, until=now + seconds)
