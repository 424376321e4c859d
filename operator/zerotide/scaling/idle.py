"""When an endpoint may fall asleep: everybody said that nobody asked, for long enough.

A missing report means awake. So does a start in progress: a wake goes on although its client left. The deadline must
have been reached on the activators' side of the streams too, not only here, or a request on its way would be missed.
"""

from __future__ import annotations

from dataclasses import dataclass

from zerotide.api.scalars import MILLISECOND
from zerotide.api.wording import counted
from zerotide.scaling.demand import Load

_REPORT_SOON_US = 100 * MILLISECOND


@dataclass(frozen=True, slots=True)
class Rest:
    """Whether to sleep; if not, what keeps it awake and when to look again (None: when something changes)."""

    asleep: bool
    kept_by: str = ""
    until_us: int | None = None


def rest(load: Load, idle_us: int, since_us: int | None, now_us: int) -> Rest:
    """Tell whether an endpoint may sleep; `since_us` is when it became able to serve, None while it is starting."""
    if load.in_flight:
        return Rest(False, f"{counted(load.in_flight, 'request')} in flight")
    if load.held:
        return Rest(False, counted(load.held, "held request"))
    if since_us is None:
        return Rest(False, "a start in progress")
    if load.missing:
        return Rest(False, f"no report from {', '.join(load.missing)}")
    deadline = max(load.last_activity_us, since_us) + idle_us
    if now_us < deadline:
        return Rest(False, "the idle timeout", deadline)
    if load.reported_us < deadline:
        return Rest(False, "the activators' next report", now_us + _REPORT_SOON_US)
    return Rest(True)
