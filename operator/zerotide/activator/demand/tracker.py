"""Count what each endpoint is asked for, and tell listeners what changed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Protocol

from zerotide.api.demand import Demand, Wake


class Listener(Protocol):
    """Somebody who follows the demand."""

    def changed(self, endpoint: str, urgent: bool) -> None:
        """Note that the demand of an endpoint changed; urgent where it began, or ended."""

    def woke(self, wake: Wake) -> None:
        """Note that a wake was completed."""


class _Counts:
    __slots__ = ("arrivals", "held", "in_flight", "last_us", "uid")

    def __init__(self, uid: str) -> None:
        self.uid = uid
        self.held = self.in_flight = self.arrivals = self.last_us = 0


MAX_WAKES = 1000
"""Endpoints whose newest wake is kept for those who listen later."""


class Tracker:
    """The demand of all endpoints since the process's start, by `namespace/name`."""

    def __init__(self, now_us: Callable[[], int]) -> None:
        self._now_us = now_us
        self._counts: dict[str, _Counts] = {}
        self._past: dict[tuple[str, str], _Counts] = {}
        """What still goes on of endpoints that were deleted and made again: demand for nothing any more."""
        self._listeners: set[Listener] = set()
        self._wakes: dict[str, Wake] = {}
        self.unheard = asyncio.Event()
        """Set while nobody follows the demand."""
        self.unheard.set()

    def follow(self, listener: Listener) -> None:
        """Tell a listener of changes from now on, and of the newest wakes, which nobody may have listened to."""
        self._listeners.add(listener)
        self.unheard.clear()
        for wake in self._wakes.values():
            listener.woke(wake)

    def leave(self, listener: Listener) -> None:
        """Tell a listener no more."""
        self._listeners.discard(listener)
        if not self._listeners:
            self.unheard.set()

    def arrived(self, endpoint: str, uid: str) -> None:
        """Count an admitted request."""
        counts = self._called(endpoint, uid)
        idle = not counts.held and not counts.in_flight
        counts.arrivals += 1
        counts.last_us = self._now_us()
        self._tell(endpoint, idle)

    def came(self, endpoint: str, uid: str, now_us: int) -> None:
        """Count a request that is admitted and in flight at once; as `arrived` and `in_flight`, in one step."""
        counts = self._counts.get(endpoint)
        if counts is None or counts.uid != uid:
            counts = self._called(endpoint, uid)
        urgent = not counts.in_flight
        counts.arrivals += 1
        counts.in_flight += 1
        counts.last_us = now_us
        for listener in self._listeners:
            listener.changed(endpoint, urgent)

    def went(self, endpoint: str, uid: str, now_us: int) -> None:
        """Note the end of a request in flight; as `in_flight` and `ended`, in one step."""
        counts = self._counts.get(endpoint)
        if counts is None or counts.uid != uid:
            counts = self._of(endpoint, uid)
        counts.in_flight = max(counts.in_flight - 1, 0)
        counts.last_us = now_us
        if self._past:
            self._over(endpoint, uid)
        for listener in self._listeners:
            listener.changed(endpoint, not counts.in_flight)

    def held(self, endpoint: str, uid: str, change: int) -> None:
        """Count requests that begin (1) or cease (-1) to be held."""
        counts = self._of(endpoint, uid)
        before, counts.held = counts.held, max(counts.held + change, 0)
        self._over(endpoint, uid)
        self._tell(endpoint, not before or not counts.held)

    def in_flight(self, endpoint: str, uid: str, change: int) -> None:
        """Count requests that begin (1) or cease (-1) to be in flight."""
        counts = self._of(endpoint, uid)
        before, counts.in_flight = counts.in_flight, max(counts.in_flight + change, 0)
        self._over(endpoint, uid)
        self._tell(endpoint, not before or not counts.in_flight)

    def ended(self, endpoint: str, uid: str) -> None:
        """Note the end of an admitted request, whatever came of it."""
        self._of(endpoint, uid).last_us = self._now_us()
        self._tell(endpoint, False)

    def woke(self, wake: Wake) -> None:
        """Tell of a completed wake."""
        self._wakes.pop(wake.endpoint, None)
        self._wakes[wake.endpoint] = wake
        if len(self._wakes) > MAX_WAKES:
            del self._wakes[next(iter(self._wakes))]
        for listener in list(self._listeners):
            listener.woke(wake)

    def demand(self, endpoint: str) -> Demand | None:
        """Return the demand of an endpoint, None where there never was any."""
        counts = self._counts.get(endpoint)
        if counts is None:
            return None
        return Demand(
            endpoint=endpoint,
            uid=counts.uid,
            held=counts.held,
            in_flight=counts.in_flight,
            arrivals=counts.arrivals,
            last_activity_us=counts.last_us,
        )

    def demands(self) -> Iterator[Demand]:
        """Yield the demand of every endpoint."""
        for endpoint in self._counts:
            demand = self.demand(endpoint)
            if demand is not None:
                yield demand

    def forget(self, endpoint: str, uid: str) -> None:
        """Drop an endpoint that was deleted."""
        counts, wake = self._counts.get(endpoint), self._wakes.get(endpoint)
        if counts is not None and counts.uid == uid and not counts.held and not counts.in_flight:
            del self._counts[endpoint]
        if wake is not None and wake.uid == uid:
            del self._wakes[endpoint]

    def _called(self, endpoint: str, uid: str) -> _Counts:
        """Return the counts of an endpoint that is called, which takes the place of one of its name that is gone."""
        counts = self._counts.get(endpoint)
        if counts is None or (counts.uid != uid and (endpoint, uid) not in self._past):
            if counts is not None and (counts.held or counts.in_flight):
                self._past[endpoint, counts.uid] = counts
            counts = self._counts[endpoint] = _Counts(uid)
        return counts if counts.uid == uid else self._past[endpoint, uid]

    def _of(self, endpoint: str, uid: str) -> _Counts:
        counts = self._counts.get(endpoint)
        if counts is None:
            counts = self._counts[endpoint] = _Counts(uid)
        return counts if counts.uid == uid else self._past.get((endpoint, uid)) or _Counts(uid)

    def _over(self, endpoint: str, uid: str) -> None:
        """Forget the past of a name once nothing of it goes on."""
        past = self._past.get((endpoint, uid))
        if past is not None and not past.held and not past.in_flight:
            del self._past[endpoint, uid]

    def _tell(self, endpoint: str, urgent: bool) -> None:
        for listener in self._listeners:
            listener.changed(endpoint, urgent)
