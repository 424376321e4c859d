"""Lead each request from its head to its last byte, and answer where something is in the way."""

from __future__ import annotations

import asyncio
import logging
import random
import re
from collections.abc import Callable, Coroutine
from typing import Any

from zerotide.activator.admission.affinity import affinity
from zerotide.activator.admission.payload import Payload, asked, glance
from zerotide.activator.admission.waits import is_batch, longest_hold
from zerotide.activator.demand.tracker import Tracker
from zerotide.activator.endpoints.endpoint import Endpoint
from zerotide.activator.endpoints.registry import Registry
from zerotide.activator.failures import PeerFault
from zerotide.activator.metrics import Metrics
from zerotide.activator.quota.hold import Lender
from zerotide.activator.traffic import local
from zerotide.activator.traffic.abroad import Envoy
from zerotide.activator.traffic.books import Books
from zerotide.activator.traffic.elsewhere import Exit
from zerotide.activator.traffic.express import Express
from zerotide.activator.traffic.forwarder import Forwarder
from zerotide.activator.traffic.intake import Care, Intake, is_json, name_of
from zerotide.activator.traffic.readings import Plan, Reading, head_of
from zerotide.activator.traffic.replies import is_call, rejection_of, send_rejection
from zerotide.activator.traffic.reserving import reserve
from zerotide.activator.traffic.visit import Visit
from zerotide.activator.wire import Exchange, Limits
from zerotide.api.errors import ErrorCode, Rejection
from zerotide.api.protocol import Action

log = logging.getLogger(__name__)

SOONEST_503 = 1.0
"""Seconds from arrival before which no 503 is sent: some clients come back at once, and for ever."""
MOST_PLANS = 64
"""Endpoints that are remembered for one head; a client that names more than these reads them anew."""
_STATUSES = {status: str(status) for status in (200, 400, 404, 429, 500, 503)}
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
        wall_us: Callable[[], int],
        envoy: Envoy,
        rng: random.Random | None = None,
        *,
        body_bytes: int = Limits().body_bytes,
        lender: Lender | None = None,
    ) -> None:
        """`lender` reserves tokens of budgets, `body_bytes` is the largest body that is read.

        Credentials, budgets and pauses end by `wall_us`, which follows the machine's clock where that is set.
        """
        self._registry, self._forwarder, self._tracker, self._metrics = registry, forwarder, tracker, metrics
        self._now, self._now_us, self._wall_us = now, now_us, wall_us
        self._rng = rng or random.Random()
        self._intake = Intake(registry, wall_us, body_bytes)
        self._pools = registry.council.pools
        self._books, self._lender = books, lender
        self._exit = Exit(self, registry, forwarder, tracker, metrics, envoy, wall_us)
        self._office = Express(books, forwarder, forwarder.holder, now, now_us, self._leave, self._answered)
        self.active = 0
        """Requests that are being worked on."""

    def express(self, exchange: Exchange) -> bool:
        """Take a request without a task; False, and nothing done, where it needs care or is to be refused."""
        body = exchange.whole_body()
        if not body or exchange.request.method != "POST":
            return False
        reading: Reading | None = exchange.request.reading
        try:
            if reading is None or not reading.holds(self._registry.version, self._wall_us):
                reading = self._read(exchange)
            if reading is None or len(body) > reading.longest_body:
                return False
            visit = self._visit(exchange, reading.given_id)
            reading.tell(visit)
            plan = self._plan(visit, reading, body)
        except Rejection:
            return False
        if plan is None or plan.verdicts or plan.quotas or self._unknown(plan) is not None:
            return False
        if plan.endpoint.profile.falls_back and plan.endpoint.gate.cold:
            return False
        if not self._take(visit, plan):
            return False
        visit.accepted_us = self._now_us()
        self.active += 1
        self._office.send(visit, plan)
        return True

    def _read(self, exchange: Exchange) -> Reading | None:
        """Read a head that is new or whose reading is out of date; None where its request needs care."""
        request = exchange.request
        visit, version, read_us = self._visit(exchange), self._registry.version, self._wall_us()
        action, profile = self._intake.locate(visit, Care.QUICK)
        if action is not Action.FORWARD or request.get(b"content-encoding"):
            return None
        reading = request.reading = Reading(
            version,
            read_us,
            visit.caller,
            profile,
            visit.target,
            visit.path,
            visit.protocol,
            longest=longest_hold(request.headers),
            batch=is_batch(request.get(b"x-zerotide-priority")),
            longest_body=self._intake.longest_body(profile, visit.caller),
            is_json=is_json(visit.path, request),
            given_id=visit.shown_id if visit.shown_id != visit.id else "",
        )
        return reading

    def _plan(self, visit: Visit, reading: Reading, body: bytes) -> Plan | None:
        """Return the way of a request that needs no care; None for others. Raises what would be raised anyway."""
        wish = (glance(body) or asked(body, reading.path)) if reading.is_json else None
        model = wish.model if wish is not None else ""
        plan = reading.plans.get(model)
        if plan is None:
            return self._new_plan(visit, reading, body, model)
        profile = plan.endpoint.profile
        if len(body) > profile.max_body_bytes:
            return None
        name = profile.engine_name(model)
        visit.payload = wish.payload(body, reading.path, name) if wish is not None else Payload(body)
        visit.endpoint = plan.endpoint
        if plan.endpoint.gate.choose is not None:
            self._lead(visit, plan.endpoint)
        return plan

    def _new_plan(self, visit: Visit, reading: Reading, body: bytes, model: str) -> Plan | None:
        profile = self._intake.understand(visit, reading.profile, body)
        endpoint = self._registry.endpoints.get(name_of(profile))
        if endpoint is None or profile.blocked is not None or profile.grpc:
            return None
        self._lead(visit, endpoint)
        plan = self._draw_up(visit, endpoint)
        if len(reading.plans) < MOST_PLANS:
            reading.plans[model] = plan
        return plan

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

    def _visit(self, exchange: Exchange, given_id: str | None = None) -> Visit:
        """Begin a visit; `given_id` is the client's own id where that is known."""
        id = f"{self._rng.getrandbits(128):032x}"
        if given_id is None:
            shown = exchange.request.get(b"x-request-id")
            given_id = shown if _ID.fullmatch(shown) else ""
        return Visit(exchange, id, given_id or id, self._now())

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
        action, profile = await self._intake.meet(visit)
        if action is Action.LOCAL:
            local.answer(visit, profile, self._registry)
            return
        profile = await self._intake.read(visit, profile)
        endpoint = self._registry.endpoints.get(name_of(profile))
        if endpoint is None:
            raise Rejection(ErrorCode.ENDPOINT_NOT_FOUND, f"endpoint {profile.key} was deleted")
        self._lead(visit, endpoint)
        plan = self._known_plan(visit) or self._draw_up(visit, endpoint)
        if endpoint.profile.fallback and await self._exit.serve(visit, plan):
            return
        await self.admit(visit, plan)
        await self._forwarder.forward(visit, plan)

    def plan(self, visit: Visit, endpoint: Endpoint) -> Plan:
        """Let a visit know an endpoint, and return its way there."""
        self._lead(visit, endpoint)
        return self._draw_up(visit, endpoint)

    def _known_plan(self, visit: Visit) -> Plan | None:
        """Return the plan that was drawn up when it was tried whether a request can be sent on at once."""
        reading: Reading | None = visit.exchange.request.reading
        if visit.way is not None or reading is None or not reading.holds(self._registry.version, self._wall_us):
            return None
        return reading.plans.get(visit.payload.model)

    def _draw_up(self, visit: Visit, endpoint: Endpoint) -> Plan:
        claims = [(f"{endpoint.profile.uid} {visit.consumer}", endpoint.profile.consumer_limit)]
        caller = visit.caller
        if caller is not None and caller.max_in_flight is not None:
            claims.append((f"key {caller.namespace}/{caller.key_id}", caller.max_in_flight))
        names = tuple(name for name, _ in claims)
        head = head_of(visit, endpoint.profile) if visit.way is None else b""
        profile = endpoint.profile
        whom, budgets = (profile.namespace, profile.name, visit.consumer), self._registry.budgets
        facts = self._books.facts(visit, endpoint)
        forbidden, reserved, known = budgets.bearing(*whom), budgets.reserving(*whom), budgets.pulses(*whom)
        return Plan(endpoint, tuple(claims), names, head, forbidden, reserved, known, facts)

    def _lead(self, visit: Visit, endpoint: Endpoint) -> None:
        """Let a visit know its endpoint, and what draws it to one of the replicas."""
        visit.endpoint, routing = endpoint, endpoint.profile.routing
        if routing.by_affinity:
            visit.affinity = affinity(routing, visit.exchange.request.get, visit.path, visit.payload.body)

    async def admit(self, visit: Visit, plan: Plan) -> None:
        """Count a request as its consumer's and as demand.

        Raises what blocks the endpoint, budget_exhausted, ledger_unavailable, consumer_limit, or what `reserve` does.
        """
        profile = plan.endpoint.profile
        if profile.blocked is not None:
            raise profile.blocked.rejection(self._wall_us())
        for verdict in plan.verdicts:
            if verdict.forbids(plan.endpoint.gate.cold, self._wall_us(), elsewhere=visit.elsewhere is not None):
                raise verdict.rejection()
        unknown = self._unknown(plan)
        if unknown is not None:
            raise unknown
        await self.claim(visit, plan)
        if plan.quotas:
            await reserve(visit, plan.quotas, self._lender)
        visit.accepted_us = self._now_us()
        self._books.arrived(visit, plan.endpoint)

    async def claim(self, visit: Visit, plan: Plan) -> None:
        """Count a request as its consumer's. Raises consumer_limit."""
        # Who waits for nothing while nothing serves is answered here and now: no other activator need be asked.
        for name, limit in () if visit.at_once and plan.endpoint.gate.cold else plan.claims:
            if not (self._pools.take(name, limit) or await self._pool(name, limit)):
                raise Rejection(
                    ErrorCode.CONSUMER_LIMIT, f"{visit.consumer} has as many requests held or in flight as it may have"
                )
            visit.claims = (*visit.claims, name)

    def _unknown(self, plan: Plan) -> Rejection | None:
        """Return the answer where usage cannot be brought to the ledger, or the ledger's word not be had, and must."""
        if not plan.pulses:
            return self._books.refusal(plan.endpoint.profile)
        now_us = self._now_us()
        silent = next((pulse for pulse in plan.pulses if pulse.silent(now_us)), None)
        return silent.rejection() if silent is not None else self._books.refusal(plan.endpoint.profile, always=True)

    def _take(self, visit: Visit, plan: Plan) -> bool:
        """Count a request as its consumer's, where nobody has to be asked whether there is room."""
        for taken, (name, limit) in enumerate(plan.claims):
            if not self._pools.take(name, limit):
                for name in plan.names[:taken]:
                    self._pools.leave(name)
                return False
        visit.claims = plan.names
        return True

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

    def withdraw(self, visit: Visit) -> None:
        """Count a request no longer, neither as its consumer's nor as demand, and give back what it has reserved."""
        for name in visit.claims:
            self._pools.leave(name)
        visit.claims = ()
        if visit.hold is not None:
            visit.hold.end()
            visit.hold = None
        if visit.counted and visit.endpoint is not None:
            visit.counted = False
            self._tracker.ended(visit.endpoint.profile.key, visit.endpoint.profile.uid)

    def _leave(self, visit: Visit) -> None:
        self.active -= 1
        self.withdraw(visit)
        endpoint = visit.endpoint
        if endpoint is None:
            return
        profile = endpoint.profile
        series = self._metrics.of(profile.namespace, profile.name)
        cold = "true" if visit.cold else "false"
        series.requests[_STATUSES.get(visit.status) or str(visit.status or 499), cold] += 1
        series.duration[cold].observe(self._now() - visit.started)
        if visit.held:
            series.hold.observe(visit.held)
        if visit.first_byte:
            series.first_byte[cold].observe(visit.first_byte - visit.started)


def _stay_alive() -> None:
    """Take back the cancellation of this task: its request is answered before it ends."""
    task = asyncio.current_task()
    if task is not None:
        task.uncancel()
