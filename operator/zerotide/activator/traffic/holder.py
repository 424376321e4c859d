"""Keep a request until a replica has room for it, its time is over, or its client is gone."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable
from functools import partial

from zerotide.activator.admission.seats import Seat
from zerotide.activator.admission.tickets import Ticket
from zerotide.activator.demand.tracker import Tracker
from zerotide.activator.endpoints.endpoint import Endpoint, Replica
from zerotide.activator.endpoints.registry import Registry
from zerotide.activator.endpoints.waker import Waker
from zerotide.activator.traffic.news import HEADER, News, asks_for_phases
from zerotide.activator.traffic.visit import Visit
from zerotide.api.errors import Rejection

TICK = 0.1
BURST = 16
"""Requests that go on in one turn of those that may, at most."""


class Place(Ticket[Replica]):
    """A visit's ticket at its endpoint's gate, and what is to be called once it is decided."""

    __slots__ = ("_decided", "_follows", "_holder", "_outcome", "endpoint", "patient", "visit")

    def __init__(self, holder: Holder, visit: Visit, endpoint: Endpoint, arrived: float) -> None:
        longest = visit.longest - (arrived - visit.started) if visit.longest else 0.0
        super().__init__(arrived, visit.size, max(longest, 0.0), visit.consumer, visit.batch, visit.affinity)
        self._holder, self.visit, self.endpoint = holder, visit, endpoint
        self.patient = visit.batch and not endpoint.profile.wakes_for_batch
        """Whether it waits until its endpoint is woken for somebody else."""
        self._outcome: Seat[Replica] | Rejection | None = None
        self._decided: Callable[[], None] | None = None
        self._follows = False
        if visit.payload.stream and endpoint.profile.heartbeat:
            self.beat_at = visit.started + endpoint.profile.heartbeat

    @property
    def decided(self) -> bool:
        """Tell whether it neither waits nor is still to be decided."""
        return self._outcome is not None

    def then(self, decided: Callable[[], None]) -> None:
        """Call once it is decided: at a time when the gate is at work, so it may only have something called soon."""
        self._decided = decided

    def take(self) -> Seat[Replica]:
        """Return the seat; raise the Rejection where there is none."""
        outcome, self._outcome, self._decided = self._outcome, None, None
        if isinstance(outcome, Seat):
            return outcome
        assert outcome is not None, "the gate decides before anyone asks"
        raise outcome

    def leave(self) -> None:
        """Give the place up, or the seat."""
        self.endpoint.gate.leave(self)
        if self._follows:
            self._follows = False
            self._holder.news.forget(self)

    def confirm(self) -> None:
        """Follow the phases from when on it is sure to be held, where the client asked for them."""
        visit = self.visit
        if visit.payload.stream and not self._follows and asks_for_phases(visit.exchange.request.get(HEADER)):
            self._follows = True
            self._holder.news.follow(self)

    def settle(self, outcome: Seat[Replica] | Rejection) -> None:
        """Take the outcome, and go on where it is awaited."""
        self._outcome = outcome
        if self._follows:
            self._follows = False
            self._holder.news.released(self) if isinstance(outcome, Seat) else self._holder.news.forget(self)
        if self._decided is not None:
            self._holder.pace.release(self._decided)

    def beat(self) -> None:
        """Send a comment to a client that reads a stream."""
        self._holder.news.beat(self)
        self.beat_at += self.endpoint.profile.heartbeat or math.inf


class Pace:
    """Let a few go on in each turn of the loop, in order: the first answers are read while others still wait.

    One goes first, by the connection that found the replica, and then twice as many in each turn.
    """

    def __init__(self) -> None:
        self._late: deque[Callable[[], None]] = deque()
        self._let_go = 0
        self._most = 1

    def release(self, decided: Callable[[], None]) -> None:
        """Let one go on, in this turn or in one of the next."""
        if not self._let_go:
            asyncio.get_running_loop().call_soon(self._turn)
        if self._let_go < self._most:
            self._let_go += 1
            decided()
        else:
            self._late.append(decided)

    def _turn(self) -> None:
        self._let_go = 0
        self._most = min(2 * self._most, BURST) if self._late else 1
        while self._late and self._let_go < self._most:
            self._let_go += 1
            self._late.popleft()()
        if self._let_go:
            asyncio.get_running_loop().call_soon(self._turn)


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


class Holder:
    """Hold requests, wake their endpoints, and keep streams alive meanwhile."""

    def __init__(
        self,
        registry: Registry,
        waker: Waker,
        tracker: Tracker,
        now: Callable[[], float],
        now_us: Callable[[], int],
    ) -> None:
        self._registry, self._waker, self._tracker = registry, waker, tracker
        self._now, self._now_us = now, now_us
        self.pace = Pace()
        self.news = News(now, now_us)
        registry.hooks.append(self)

    async def run(self) -> None:
        """Look at what is held, ten times a second, for ever."""
        while True:
            await asyncio.sleep(TICK)
            now = self._now()
            for endpoint in list(self._registry.endpoints.values()):
                if endpoint.gate.held:
                    endpoint.gate.sweep(now, TICK)

    def place(self, visit: Visit, endpoint: Endpoint) -> Place:
        """Return a place for a request that was admitted."""
        return Place(self, visit, endpoint, self._now())

    def seated(self, visit: Visit, endpoint: Endpoint, seat: Seat[Replica]) -> Place:
        """Return the place of a request that was let through without one."""
        place = Place(self, visit, endpoint, visit.started)
        endpoint.gate.seated(place, seat)
        return place

    async def seat(self, place: Place, *, again: bool = False) -> Seat[Replica]:
        """Return a seat at a replica, waiting for it as long as allowed; `again` where one was lost.

        Raises queue_full, endpoint_cold, hold_timeout, or what became of the endpoint meanwhile.
        """
        self.come(place, again=again)
        if not place.decided:
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self.hold(place, partial(_wake, waiter))
            try:
                await waiter
            finally:
                self.release(place)
        return self.outcome(place)

    def come(self, place: Place, *, again: bool = False) -> None:
        """Bring a place to its gate, which may decide at once, and wake an endpoint that has no replica."""
        endpoint, visit = place.endpoint, place.visit
        if endpoint.gate.cold:
            visit.cold = visit.cold or not again
            if not place.patient:
                self.wake(endpoint)
        if again:
            endpoint.gate.come_back(place, self._now())
        else:
            endpoint.gate.enter(place, self._now())

    def wake(self, endpoint: Endpoint) -> None:
        """Wake an endpoint that has no replica."""
        endpoint.wanted(self._now_us())
        self._waker.want(endpoint)

    def hold(self, place: Place, decided: Callable[[], None]) -> None:
        """Count a request as held, which `release` ends, and call once the gate has decided."""
        self._told(place, 1)
        place.then(decided)

    def release(self, place: Place) -> None:
        """Count a request as held no longer."""
        self._told(place, -1)
        place.visit.held += self._now() - place.since

    def outcome(self, place: Place) -> Seat[Replica]:
        """Return what the gate decided; raises as `seat` does."""
        try:
            return place.take()
        except Rejection as rejection:
            raise place.endpoint.explain(rejection, self._now_us()) from None

    def _told(self, place: Place, change: int) -> None:
        """Count a request that is held, as demand unless it waits for somebody else to wake its endpoint."""
        endpoint, profile = place.endpoint, place.endpoint.profile
        if place.patient:
            endpoint.patients += change
            if endpoint.quiet:
                return
        self._tracker.held(profile.key, profile.uid, change)

    def changed(self, endpoint: Endpoint) -> None:
        """Tell of a new phase; count those who waited for somebody else as demand from when on it is awake."""
        self.news.changed(endpoint)
        profile = endpoint.profile
        quiet = profile.asleep
        if quiet is not endpoint.quiet:
            endpoint.quiet = quiet
            if endpoint.patients:
                self._tracker.held(profile.key, profile.uid, -endpoint.patients if quiet else endpoint.patients)

    def gone(self, endpoint: Endpoint) -> None:
        """Do nothing: those who wait are turned away one by one."""
