"""What the backlog of a cold start weighs: a model that loads for minutes lets pile up what one replica soon works off.

A wake is sized by what comes, times how long it takes, and by what has piled up as far as it must be gone within the
time that another start would take: a replica that is asked for only then serves no sooner. In order of arrival hardly
anybody waits for longer than the first of them did. The backlog is an upper bound all the same: a rate that was seen
for a moment is no reason for more replicas than there are requests.
"""

from __future__ import annotations

from dataclasses import dataclass

from zerotide.scaling.arrivals import SPAN_US


@dataclass(frozen=True, slots=True)
class Backlog:
    """What came in the last `SPAN_US`, how long each takes, in which time the backlog must be gone, and until when."""

    came: int
    service_us: int
    drain_us: int
    until_us: int | None = None
    """When everything counts again, None while nothing serves yet."""

    def weigh(self, requests: int) -> int:
        """Return as how many requests these count, at most as themselves."""
        work_us = self.service_us * (self.came * self.drain_us + requests * SPAN_US)
        return min(requests, max(-(-work_us // (SPAN_US * self.drain_us)), 1))


def backlog(
    came: int, service_us: int | None, cold_us: int, patience_us: int, since_us: int | None, now_us: int
) -> Backlog | None:
    """Return the backlog of a start, None where none is worked off or too little is known.

    `cold_us` is how long a cold start takes, 0 if nobody knows; `patience_us` how long requests wait for a replica
    that serves, of which half is used; `since_us` since when one does, None while none does.
    """
    drain_us = min(cold_us, patience_us // 2)
    if service_us is None or drain_us <= 0:
        return None
    until_us = None if since_us is None else since_us + drain_us
    if until_us is not None and now_us >= until_us:
        return None
    return Backlog(came, service_us, drain_us, until_us)
