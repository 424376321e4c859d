"""Keep a request until a replica has room for it, its time is over, or its client is gone."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable

from zerotide.activator.admission.gate import Seat, Ticket
from zerotide.activator.demand.tracker import Tracker
from zerotide.activator.endpoints.endpoint import Endpoint, Replica
from zerotide.activator.endpoints.registry import Registry
from zerotide.activator.endpoints.waker import Waker
from zerotide.activator.traffic.replies import STREAM_HEADERS, identity
from zerotide.activator.traffic.visit import Visit
from zerotide.api.errors import Rejection
from zerotide.api.scalars import SECOND

TICK = 0.1


class Place:
    """A visit's ticket at its endpoint's gate, and the future on which it waits."""

    __slots__ = ("_outcome", "_waiter", "endpoint", "ticket", "visit")

    def __init__(self, visit: Visit, endpoint: Endpoint, arrived: float) -> None:
        self.visit, self.endpoint = visit, endpoint
        longest = visit.longest - (arrived - visit.started) if visit.longest else 0.0
        self.ticket: Ticket[Replica] = Ticket(arrived, visit.size, max(longest, 0.0), self._settle, visit.affinity)
        self._outcome: Seat[Replica] | Rejection | None = None
        self._waiter: asyncio.Future[None] | None = None

    @property
    def decided(self) -> bool:
        """Tell whether it neither waits nor is still to be decided."""
        return self._outcome is not None

    async def wait(self) -> None:
        """Return once it is decided."""
        self._waiter = asyncio.get_running_loop().create_future()
        await self._waiter

    def take(self) -> Seat[Replica]:
        """Return the seat; raise the Rejection where there is none."""
        outcome, self._outcome, self._waiter = self._outcome, None, None
        if isinstance(outcome, Seat):
            return outcome
        assert outcome is not None, "the gate decides before anyone asks"
        raise outcome

    def leave(self) -> None:
        """Give the place up, or the seat."""
        self.endpoint.gate.leave(self.ticket)

    def _settle(self, outcome: Seat[Replica] | Rejection) -> None:
        self._outcome = outcome
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


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
        place = Place(visit, endpoint, self._now())
        heartbeat = endpoint.profile.heartbeat
        if visit.payload.stream and heartbeat:
            place.ticket.beat = lambda: self._beat(place)
            place.ticket.beat_at = visit.started + heartbeat
        return place

    async def seat(self, place: Place, *, again: bool = False) -> Seat[Replica]:
        """Return a seat at a replica, waiting for it as long as allowed; `again` where one was lost.

        Raises queue_full, endpoint_cold, hold_timeout, or what became of the endpoint meanwhile.
        """
        endpoint, visit = place.endpoint, place.visit
        if endpoint.gate.cold:
            visit.cold = visit.cold or not again
            endpoint.wanted(self._now_us())
            self._waker.want(endpoint)
        if again:
            endpoint.gate.come_back(place.ticket, self._now())
        else:
            endpoint.gate.enter(place.ticket, self._now())
        if not place.decided:
            await self._wait(place)
        try:
            return place.take()
        except Rejection as rejection:
            raise endpoint.explain(rejection, self._now_us()) from None

    async def _wait(self, place: Place) -> None:
        profile, since = place.endpoint.profile, self._now()
        self._tracker.held(profile.key, profile.uid, 1)
        try:
            await place.wait()
        finally:
            self._tracker.held(profile.key, profile.uid, -1)
            place.visit.held += self._now() - since

    def _beat(self, place: Place) -> None:
        """Send a comment, the first of which commits to status 200."""
        visit, endpoint, ticket = place.visit, place.endpoint, place.ticket
        if not visit.committed:
            visit.committed = visit.streaming = True
            cold = (b"x-zerotide-cold-start", b"true" if visit.cold else b"false")
            visit.exchange.start(200, [*STREAM_HEADERS, *identity(visit), cold])
        now = self._now()
        words = [f": zerotide state={endpoint.profile.state}", f"elapsed={round(now - visit.started)}s"]
        ready_in = endpoint.ready_in_us(self._now_us())
        if ready_in is not None:
            words.append(f"ready-in={math.ceil(ready_in / SECOND)}s")
        visit.exchange.write(" ".join(words).encode() + b"\n\n")
        ticket.beat_at += endpoint.profile.heartbeat or math.inf
