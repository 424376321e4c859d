"""What the activators say that endpoints are asked for, folded into one picture on the operator's clock.

Each activator stamps with its own clock. Every line tells when it was sent; the smallest difference to its arrival
is taken as the offset between the two clocks, renewed every half minute so that drift cannot pile up. It includes
the shortest way of a line, so converted times are late by that much, never early: an endpoint never sleeps too soon.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from zerotide.api.demand import Delta, Demand, Message, Report, Snapshot, Wake
from zerotide.api.scalars import SECOND
from zerotide.scaling.backlog import Backlog

_RENEW_US = 30 * SECOND


@dataclass(frozen=True, slots=True)
class Load:
    """What one endpoint is asked for over all activators.

    `last_activity_us` counts the start of each activator as activity. `reported_us` is the time up to which every
    activator has told everything, 0 while one is `missing`.
    """

    held: int = 0
    in_flight: int = 0
    last_activity_us: int = 0
    last_request_us: int = 0
    """The newest arrival or end of a request, 0 if none is known; starts of activators do not count."""
    reported_us: int = 0
    missing: tuple[str, ...] = ()
    arrivals: int = 0
    """Requests that came since each activator's start, as far as they are known."""
    wait_us: int = 0
    """How long requests wait in line now, where that is asked for."""
    queued: int = 0
    """Requests that wait within engines, as far as these have told lately, where that is asked for."""
    tokens: int = 0
    """Tokens in flight within engines, likewise."""
    backlog: Backlog | None = None
    """What is known of the backlog of a start, while there is one to work off."""

    @property
    def active(self) -> bool:
        """Tell whether anything is held or in flight."""
        return self.held > 0 or self.in_flight > 0

    @property
    def requests(self) -> int:
        """Return as how many requests those that are held and in flight count."""
        present = self.held + self.in_flight
        return present if self.backlog is None else self.backlog.weigh(present)

    def moved(self, step_us: int) -> Load:
        """Return the same load by a clock that was set; what is not known stays so."""
        times = (self.last_activity_us, self.last_request_us, self.reported_us)
        activity, request, reported = (time_us + step_us if time_us else 0 for time_us in times)
        return replace(self, last_activity_us=activity, last_request_us=request, reported_us=reported)

    def after(self, before: Load, now_us: int) -> Load:
        """Return the load with the activity that was known before it: who leaves takes along what it has told.

        What went on before and whose end nobody tells went on until now.
        """
        # A clock that fell must not hold anything for ever.
        activity_us, request_us = min(before.last_activity_us, now_us), min(before.last_request_us, now_us)
        if before.active and not self.active and self.last_request_us <= before.last_request_us:
            activity_us = now_us
        activity_us, request_us = max(self.last_activity_us, activity_us), max(self.last_request_us, request_us)
        return replace(self, last_activity_us=activity_us, last_request_us=request_us)


@dataclass(frozen=True, slots=True)
class Serving:
    """Replicas that take requests: how many, and since when the first of them does, None where none does."""

    count: int = 0
    since_us: int | None = None


class View:
    """What one activator has said on its current stream."""

    def __init__(self) -> None:
        self.name = ""
        self.complete = False
        self._started_us = 0
        self._reported_us = 0
        self._demands: dict[str, Demand] = {}
        self._offsets = (0, 0)
        self._renewed_us = 0

    def apply(self, message: Message, arrived_us: int) -> None:
        """Take in one message that arrived at `arrived_us` of the operator's clock."""
        self._measure(message.at_us, arrived_us)
        match message:
            case Snapshot():
                self.name, self.complete = message.activator, True
                self._started_us = message.started_at_us
                self._demands = {demand.endpoint: demand for demand in message.demands}
                self._reported_us = message.at_us
            case Delta():
                self._demands[message.demand.endpoint] = message.demand
            case Report():
                self._reported_us = max(self._reported_us, message.at_us)
            case Wake():
                pass

    def here(self, their_us: int) -> int:
        """Convert a time of the activator's clock to the operator's."""
        return their_us + min(self._offsets)

    @property
    def reported_us(self) -> int:
        """Return the time up to which everything was told; 0 before the snapshot."""
        return self.here(self._reported_us) if self.complete else 0

    @property
    def started_us(self) -> int:
        """Return the start of the activator, 0 before the snapshot."""
        return self.here(self._started_us) if self.complete else 0

    def endpoints(self) -> list[str]:
        """Return the endpoints that the activator spoke of."""
        return list(self._demands)

    def demand(self, endpoint: str, uid: str) -> Demand | None:
        """Return what is known of an endpoint; what was said of a namesake that is gone is not."""
        known = self._demands.get(endpoint)
        return known if known is not None and known.uid == uid else None

    def _measure(self, sent_us: int, arrived_us: int) -> None:
        offset = arrived_us - sent_us
        if self._renewed_us == 0:
            self._offsets, self._renewed_us = (offset, offset), arrived_us
        elif arrived_us - self._renewed_us >= _RENEW_US:
            self._offsets, self._renewed_us = (self._offsets[1], offset), arrived_us
        else:
            before, current = self._offsets
            self._offsets = (before, min(current, offset))


def load_of(endpoint: str, uid: str, views: Mapping[str, View], expected: Iterable[str]) -> Load:
    """Fold what all activators say about one endpoint.

    `views` are the open streams by pod name; `expected` are the pods that must have one. Without any expected
    activator nothing is known, which counts as one that is missing.
    """
    wanted = sorted(set(expected))
    missing = tuple(name for name in wanted if name not in views or not views[name].complete)
    held = in_flight = activity = request = arrivals = 0
    for view in views.values():
        if not view.complete:
            continue
        activity = max(activity, view.started_us)
        demand = view.demand(endpoint, uid)
        if demand is not None:
            held, in_flight = held + demand.held, in_flight + demand.in_flight
            arrivals += demand.arrivals
            if demand.last_activity_us:
                request = max(request, view.here(demand.last_activity_us))
    if not wanted:
        missing = ("any activator",)
    reported = 0 if missing else min(views[name].reported_us for name in wanted)
    return Load(held, in_flight, max(activity, request), request, reported, missing, arrivals)
