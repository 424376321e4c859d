"""Bring an admitted request to a replica, and to another one where the first was lost before it answered."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from zerotide.activator.endpoints.endpoint import Endpoint, Replica
from zerotide.activator.endpoints.registry import Registry
from zerotide.activator.failures import ConnectFailed, ResponseLost
from zerotide.activator.metrics import Metrics
from zerotide.activator.quota.slices import Use
from zerotide.activator.traffic.books import Books
from zerotide.activator.traffic.holder import Holder, Place
from zerotide.activator.traffic.intake import name_of
from zerotide.activator.traffic.metered import Metered
from zerotide.activator.traffic.readings import Plan, tail_of
from zerotide.activator.traffic.relay import Relay
from zerotide.activator.traffic.visit import Visit
from zerotide.activator.traffic.way import Source, Way
from zerotide.api.errors import ErrorCode, Rejection
from zerotide.api.usage import Outcome

MOST_ATTEMPTS = 3


class Plain:
    """The way of a request whose whole body was read: it goes out over HTTP/1.1, as often as needed."""

    __slots__ = ("_plan", "_visit")

    def __init__(self, visit: Visit, plan: Plan) -> None:
        self._visit, self._plan = visit, plan

    def size(self) -> int:
        """Return the size of the body."""
        return len(self._visit.payload.body)

    def timeout(self, longest: float) -> float:
        """The client announces none that counts here."""
        return longest

    def relay(self, on_first: Callable[[], None]) -> Relay:
        """Return what takes the answer."""
        hold = self._visit.hold
        return Relay(self._visit, on_first) if hold is None or hold.whole else Metered(self._visit, on_first, hold)

    def repeatable(self) -> bool:
        """The body is kept."""
        return True

    async def send(self, replica: Replica, relay: Relay, *, fresh: bool = False) -> Source:
        """Send it over one of the replica's connections."""
        return await replica.pool.send((self._plan.head, tail_of(self._visit)), relay, fresh=fresh)


class Forwarder:
    """Forward requests that may have to wait, each by the task that handles it."""

    def __init__(
        self,
        registry: Registry,
        holder: Holder,
        books: Books,
        metrics: Metrics,
        now: Callable[[], float],
        now_us: Callable[[], int],
    ) -> None:
        self._registry, self.holder, self._books, self._metrics = registry, holder, books, metrics
        self._now, self._now_us = now, now_us

    async def forward(self, visit: Visit, plan: Plan, place: Place | None = None) -> None:
        """Hold a request until it may go, send it, pass its answer on; with a place where it has one, or had.

        Raises a Rejection where there will be no answer.
        """
        endpoint = plan.endpoint
        place = place or self.holder.place(visit, endpoint)
        try:
            if visit.attempts:
                self._look_again(visit, endpoint)
            way = visit.way or Plain(visit, plan)
            while True:
                again = visit.attempts > 0
                seat = (None if again else place.seat) or await self.holder.seat(place, again=again)
                visit.queued_ms = round((self._now() - visit.started) * 1000)
                visit.attempts += 1
                if await self._attempt(visit, plan, seat.replica, way):
                    return
                if not way.repeatable():
                    raise Rejection(ErrorCode.UPSTREAM_LOST, "the replica was lost, and the request cannot be repeated")
                self._look_again(visit, endpoint)
        finally:
            place.leave()

    async def _attempt(self, visit: Visit, plan: Plan, replica: Replica, way: Way) -> bool:
        """Send a request once; False where it may be sent again."""
        endpoint = plan.endpoint
        handed_us, attempt = self._now_us(), visit.attempts
        first_us: int | None = None

        def on_first() -> None:
            nonlocal first_us
            first_us = self._books.first_byte(visit, endpoint, replica)

        relay = way.relay(on_first)
        timeout = way.timeout(endpoint.profile.request_timeout)
        self._books.began(visit, endpoint, replica, plan.facts, handed_us)
        if self._books.journal is not None:
            self._books.journal.flush()
        outcome = Outcome.CLIENT_GONE
        try:
            unbilled = self._books.unwritten(visit, endpoint.profile)
            if unbilled is not None:
                raise unbilled
            outcome = await self._exchange(visit, replica, way, relay, timeout)
        except Rejection:
            outcome = Outcome.OVER_BUDGET
            raise
        finally:
            relay.close()
            if visit.exchange.overruled is not None:
                outcome = Outcome.TIMED_OUT
            ended_us = self._books.ended(visit, endpoint, attempt, relay, first_us, outcome)
            if visit.hold is not None and outcome is not Outcome.LOST:
                tokens = relay.tokens
                use = Use(tokens.input, tokens.output, 1) if tokens is not None else Use(0, 0, 1)
                visit.hold.used = visit.hold.used.plus(use)
        if outcome in (Outcome.COMPLETED, Outcome.LOST):
            self._books.judge(endpoint, replica, relay)
        if outcome is Outcome.COMPLETED:
            endpoint.services.add(ended_us - handed_us)
            return True
        if outcome is Outcome.TIMED_OUT:
            raise too_late(timeout)
        if relay.status:
            raise cut_off()
        return False

    async def _exchange(self, visit: Visit, replica: Replica, way: Way, relay: Relay, timeout: float) -> Outcome:
        connection: Source | None = None
        finished = False
        try:
            async with asyncio.timeout(timeout):
                connection = await way.send(replica, relay)
                visit.exchange.flow = None if relay.over else connection
                await relay.done
                if (
                    isinstance(relay.fault, ResponseLost)
                    and relay.fault.reused
                    and not relay.status
                    and way.repeatable()
                ):
                    # An idle connection that the replica closed just then: not its failure.
                    relay.again()
                    connection = await way.send(replica, relay, fresh=True)
                    visit.exchange.flow = None if relay.over else connection
                    await relay.done
            finished = True
        except ConnectFailed as fault:
            finished = True
            relay.fault = fault
        except TimeoutError:
            return Outcome.TIMED_OUT
        finally:
            visit.exchange.flow = None
            # Where all has come, the connection serves another request by now.
            if not finished and connection is not None and not relay.over:
                connection.abort()
        return Outcome.COMPLETED if relay.fault is None else Outcome.LOST

    def _look_again(self, visit: Visit, endpoint: Endpoint) -> None:
        """Decide whether a request whose replica was lost may wait for another one."""
        if visit.attempts >= MOST_ATTEMPTS:
            raise Rejection(ErrorCode.UPSTREAM_LOST, f"the replica was lost in {visit.attempts} attempts")
        if self._registry.endpoints.get(name_of(endpoint.profile)) is not endpoint:
            raise Rejection(ErrorCode.ENDPOINT_NOT_FOUND, f"endpoint {endpoint.profile.key} was deleted")
        if endpoint.profile.blocked is not None:
            raise endpoint.profile.blocked.rejection(self._now_us())
        self._metrics.of(*name_of(endpoint.profile)).retries += 1


def too_late(timeout: float) -> Rejection:
    """Return the answer where a replica took longer than allowed, in seconds."""
    return Rejection(ErrorCode.UPSTREAM_TIMEOUT, f"the answer took longer than {timeout:g} s")


def cut_off() -> Rejection:
    """Return the answer where a replica was lost after it began to answer."""
    return Rejection(ErrorCode.UPSTREAM_LOST, "the replica was lost while it answered")
