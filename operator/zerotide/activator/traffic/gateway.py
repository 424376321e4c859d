"""Lead each request from its head to its last byte, and answer where something is in the way."""

from __future__ import annotations

import asyncio
import logging
import random
import re
from collections.abc import Callable, Coroutine
from typing import Any

from zerotide.activator.admission.affinity import affinity
from zerotide.activator.admission.profile import Profile
from zerotide.activator.admission.waits import is_batch, longest_hold
from zerotide.activator.demand.tracker import Tracker
from zerotide.activator.endpoints.endpoint import Endpoint
from zerotide.activator.endpoints.registry import Registry
from zerotide.activator.failures import PeerFault
from zerotide.activator.metrics import Metrics
from zerotide.activator.traffic import local
from zerotide.activator.traffic.books import Books
from zerotide.activator.traffic.express import Express
from zerotide.activator.traffic.forwarder import Forwarder
from zerotide.activator.traffic.intake import Intake, name_of
from zerotide.activator.traffic.readings import Plan, Reading, head_of
from zerotide.activator.traffic.replies import is_call, rejection_of, send_rejection
from zerotide.activator.traffic.visit import Visit
from zerotide.activator.wire import Exchange, Limits
from zerotide.api.errors import ErrorCode, Rejection
from zerotide.api.protocol import Action

log = logging.getLogger(__name__)

SOONEST_503 = 1.0
"""Seconds from arrival before which no 503 is sent: some clients come back at once, and for ever."""
_ID = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}")


class Gateway:
    """Handle requests."""

    def __init__(
        self,
        registry: Registry,
        forwarder: Forwarder,
        books: Books,
        tracker: Tracker,
        metrics: Metrics,
        now: Callable[[], float],
        now_us: Callable[[], int],
        rng: random.Random | None = None,
        *,
        body_bytes: int = Limits().body_bytes,
    ) -> None:
        self._registry, self._forwarder, self._tracker, self._metrics = registry, forwarder, tracker, metrics
        self._now, self._now_us = now, now_us
        self._rng = rng or random.Random()
        self._intake = Intake(registry, now_us, body_bytes)
        self._pools = registry.council.pools
        self._books = books
        self._office = Express(books, forwarder, now, self._leave, self._answered)
        self.active = 0
        """Requests that are being worked on."""

    def express(self, exchange: Exchange) -> bool:
        """Send a request on at once; False, and nothing done, where it has to wait or is to be refused."""
        body = exchange.whole_body()
        if not body or exchange.request.method != "POST":
            return False
        visit = self._visit(exchange)
        try:
            plan = self._plan(visit, body)
        except Rejection:
            return False
        if plan is None or not self._take(visit, plan):
            return False
        visit.accepted_us = self._now_us()
        place = self._forwarder.place(visit, plan.endpoint)
        if not self._office.send(visit, plan, place):
            for name in visit.claims:
                self._pools.leave(name)
            return False
        self._count(visit, plan.endpoint.profile)
        self.active += 1
        return True

    def _plan(self, visit: Visit, body: bytes) -> Plan | None:
        """Return the way of a request that needs no care; None for others. Raises what would be raised anyway."""
        request, version = visit.exchange.request, self._registry.version
        reading: Reading | None = request.reading
        if reading is None or not reading.holds(version, self._now_us()):
            reading = request.reading = self._read(visit, version)
            if reading is None:
                return None
        visit.caller, visit.target, visit.protocol = reading.caller, reading.target, reading.protocol
        visit.longest, visit.batch = reading.longest, reading.batch
        if len(body) > reading.longest_body:
            return None
        profile = self._intake.understand(visit, reading.profile, body)
        endpoint = self._registry.endpoints.get(name_of(profile))
        if endpoint is None or profile.blocked is not None or profile.grpc:
            return None
        visit.endpoint = endpoint
        if profile.routing.by_affinity:
            visit.affinity = affinity(profile.routing, request.get, visit.path, visit.payload.body)
        plan = reading.plans.get(visit.payload.model)
        if plan is None:
            claims = tuple(self._claims(visit, profile))
            names = tuple(name for name, _ in claims)
            plan = Plan(endpoint, claims, names, head_of(visit, profile), self._books.facts(visit, endpoint))
            reading.plans[visit.payload.model] = plan
        return plan

    def _read(self, visit: Visit, version: int) -> Reading | None:
        action, profile = self._intake.locate(visit)
        if action is not Action.FORWARD or visit.exchange.request.get(b"content-encoding"):
            return None
        headers, priority = visit.exchange.request.headers, visit.exchange.request.get(b"x-zerotide-priority")
        return Reading(
            version,
            visit.caller,
            profile,
            visit.target,
            visit.protocol,
            longest_hold(headers),
            is_batch(priority),
            self._intake.longest_body(profile, visit.caller),
        )

    async def run(self) -> None:
        """End answers that take too long, for ever."""
        await self._office.run()

    async def handle(self, exchange: Exchange) -> None:
        """Answer one request."""
        self.active += 1
        visit = self._visit(exchange)
        try:
            await self._answered(visit, lambda: self._serve(visit))
        finally:
            self._leave(visit)

    def _visit(self, exchange: Exchange) -> Visit:
        id = f"{self._rng.getrandbits(128):032x}"
        shown = exchange.request.get(b"x-request-id")
        return Visit(exchange, id, shown if _ID.fullmatch(shown) else id, self._now())

    async def _answered(self, visit: Visit, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        exchange = visit.exchange
        try:
            await work()
        except Rejection as rejection:
            await self._refuse(visit, rejection)
        except PeerFault as fault:
            await self._refuse(visit, rejection_of(fault))
        except asyncio.CancelledError:
            if exchange.gone or exchange.overruled is None:
                raise
            _stay_alive()
            await self._refuse(visit, rejection_of(exchange.overruled))
        except Exception:
            log.exception("a request could not be handled", extra={"request": visit.id})
            await self._refuse(visit, Rejection(ErrorCode.UPSTREAM_LOST, "the gateway failed to handle the request"))

    async def _serve(self, visit: Visit) -> None:
        action, profile = self._intake.locate(visit)
        if action is Action.LOCAL:
            local.answer(visit, profile, self._registry)
            return
        profile = await self._intake.read(visit, profile)
        endpoint = self._registry.endpoints.get(name_of(profile))
        if endpoint is None:
            raise Rejection(ErrorCode.ENDPOINT_NOT_FOUND, f"endpoint {profile.key} was deleted")
        visit.endpoint = endpoint
        if profile.routing.by_affinity:
            visit.affinity = affinity(profile.routing, visit.exchange.request.get, visit.path, visit.payload.body)
        await self._admit(visit, endpoint)
        await self._forwarder.forward(visit, endpoint)

    async def _admit(self, visit: Visit, endpoint: Endpoint) -> None:
        """Count a request as its consumer's and as demand.

        Raises what blocks the endpoint, or consumer_limit.
        """
        profile = endpoint.profile
        if profile.blocked is not None:
            raise profile.blocked.rejection(self._now_us())
        for name, limit in self._claims(visit, profile):
            if not (self._pools.take(name, limit) or await self._pool(name, limit)):
                raise Rejection(
                    ErrorCode.CONSUMER_LIMIT, f"{visit.consumer} has as many requests held or in flight as it may have"
                )
            visit.claims = (*visit.claims, name)
        visit.accepted_us = self._now_us()
        self._count(visit, profile)

    def _count(self, visit: Visit, profile: Profile) -> None:
        visit.counted = True
        self._tracker.arrived(profile.key, profile.uid)

    def _take(self, visit: Visit, plan: Plan) -> bool:
        """Count a request as its consumer's, where nobody has to be asked whether there is room."""
        for taken, (name, limit) in enumerate(plan.claims):
            if not self._pools.take(name, limit):
                for name in plan.names[:taken]:
                    self._pools.leave(name)
                return False
        visit.claims = plan.names
        return True

    def _claims(self, visit: Visit, profile: Profile) -> list[tuple[str, int]]:
        claims = [(f"{profile.uid} {visit.consumer}", profile.consumer_limit)]
        caller = visit.caller
        if caller is not None and caller.max_in_flight is not None:
            claims.append((f"key {caller.namespace}/{caller.key_id}", caller.max_in_flight))
        return claims

    async def _pool(self, name: str, limit: int) -> bool:
        """Count a request within a limit for which other activators may have to be asked; tell whether it has room."""
        answer: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

        def done(counts: bool) -> None:
            if not answer.done():
                answer.set_result(counts)
            elif counts:
                self._pools.leave(name)

        self._pools.enter(name, limit, done)
        try:
            return await answer
        except asyncio.CancelledError:
            if answer.done() and not answer.cancelled() and answer.result():
                self._pools.leave(name)
            raise

    async def _refuse(self, visit: Visit, rejection: Rejection) -> None:
        """Answer with a row of the table, a 503 not too soon."""
        if visit.endpoint is not None:
            self._metrics.of(*name_of(visit.endpoint.profile)).rejected[rejection.code.value] += 1
        if rejection.row.status == 503 and not visit.exchange.started and not visit.at_once:
            await asyncio.sleep(max(visit.started + SOONEST_503 - self._now(), 0.0))
        if visit.exchange.started and not visit.streaming and not is_call(visit.exchange):
            visit.exchange.cut()
        else:
            send_rejection(visit, rejection, self._rng)

    def _leave(self, visit: Visit) -> None:
        self.active -= 1
        for name in visit.claims:
            self._pools.leave(name)
        endpoint = visit.endpoint
        if endpoint is None:
            return
        profile = endpoint.profile
        if visit.counted:
            self._tracker.ended(profile.key, profile.uid)
        series = self._metrics.of(profile.namespace, profile.name)
        cold = "true" if visit.cold else "false"
        now = self._now()
        series.requests[str(visit.status or 499), cold] += 1
        series.duration[cold].observe(now - visit.started)
        if visit.held:
            series.hold.observe(visit.held)
        if visit.first_byte:
            series.first_byte[cold].observe(visit.first_byte - visit.started)


def _stay_alive() -> None:
    """Take back the cancellation of this task: its request is answered before it ends."""
    task = asyncio.current_task()
    if task is not None:
        task.uncancel()
