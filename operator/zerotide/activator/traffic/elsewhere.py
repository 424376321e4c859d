"""Serve a request by its endpoint's fallback: while no replica of its own is ready, or where a budget says so.

It goes elsewhere once and no further, so there are no loops. Where it cannot be served there, and was not sent yet, all
is as if there were no fallback: the request waits, or is refused, for its own endpoint.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Protocol

from zerotide.activator.admission.naming import Name
from zerotide.activator.admission.payload import Payload, asked
from zerotide.activator.admission.profile import Abroad, Profile
from zerotide.activator.demand.tracker import Tracker
from zerotide.activator.endpoints.endpoint import Endpoint
from zerotide.activator.endpoints.registry import Registry
from zerotide.activator.failures import AbroadUnavailable
from zerotide.activator.metrics import Metrics
from zerotide.activator.traffic.abroad import Envoy
from zerotide.activator.traffic.forwarder import Forwarder
from zerotide.activator.traffic.intake import is_json, name_of
from zerotide.activator.traffic.readings import Plan
from zerotide.activator.traffic.visit import Elsewhere, Visit
from zerotide.api.budget import BudgetAction
from zerotide.api.errors import ErrorCode, Rejection
from zerotide.api.protocol import FORWARDED_PATHS


class Cause(StrEnum):
    """Why a request is served elsewhere; also the label of the metric."""

    COLD = "cold"
    BUDGET = "budget"


class Desk(Protocol):
    """What a gateway does with every request."""

    def plan(self, visit: Visit, endpoint: Endpoint) -> Plan:
        """Let a visit know an endpoint, and return its way there."""

    async def admit(self, visit: Visit, plan: Plan) -> None:
        """Count a request as its consumer's and as demand. Raises a Rejection."""

    async def claim(self, visit: Visit, plan: Plan) -> None:
        """Count a request as its consumer's. Raises consumer_limit."""

    def withdraw(self, visit: Visit) -> None:
        """Take that back for a request that was not sent."""


def cause_of(plan: Plan, now_us: int) -> Cause | None:
    """Return why a request goes elsewhere, None where it does not."""
    profile = plan.endpoint.profile
    if not profile.fallback or (profile.blocked is not None and profile.blocked.code is ErrorCode.SUSPENDED):
        return None
    actions = {verdict.action for verdict in plan.verdicts if verdict.holds(now_us)}
    if BudgetAction.BLOCK in actions:
        return None
    if BudgetAction.FALLBACK in actions:
        return Cause.BUDGET
    return Cause.COLD if profile.falls_back and plan.endpoint.gate.cold else None


class Exit:
    """Send requests elsewhere."""

    def __init__(
        self,
        desk: Desk,
        registry: Registry,
        forwarder: Forwarder,
        tracker: Tracker,
        metrics: Metrics,
        envoy: Envoy,
        wall_us: Callable[[], int],
    ) -> None:
        self._desk, self._registry, self._forwarder = desk, registry, forwarder
        self._tracker, self._metrics, self._envoy, self._wall_us = tracker, metrics, envoy, wall_us

    async def serve(self, visit: Visit, plan: Plan) -> bool:
        """Have a request served by its endpoint's fallback; False, and nothing done but a wake, where it is not.

        Raises the fallback's Rejection for a request that was sent.
        """
        first, cause = plan.endpoint, cause_of(plan, self._wall_us())
        if cause is None or visit.way is not None:
            return False
        if cause is Cause.COLD:
            self._wake(visit, plan)
        if isinstance(first.profile.fallback, Abroad):
            return await self._serve_abroad(visit, plan, first.profile.fallback, cause)
        other = self._other(visit, first.profile, first.profile.fallback, cause)
        if other is None:
            return False
        before = (visit.payload, visit.affinity)
        visit.elsewhere = Elsewhere(other.profile.name, cause.value)
        visit.payload, visit.affinity = translated(visit, other.profile.model_name), 0
        try:
            there = self._desk.plan(visit, other)
            await self._desk.admit(visit, there)
            await self._forwarder.forward(visit, there)
        except Rejection:
            if visit.attempts:
                raise
            self._desk.withdraw(visit)
            visit.endpoint, visit.elsewhere = first, None
            visit.payload, visit.affinity = before
            return False
        finally:
            if visit.attempts:
                self._metrics.of(*name_of(first.profile)).fallbacks[cause.value] += 1
        return True

    async def _serve_abroad(self, visit: Visit, plan: Plan, where: Abroad, cause: Cause) -> bool:
        """Have a request served by a URL; it counts as its consumer's with its own endpoint."""
        profile, before = plan.endpoint.profile, visit.payload
        await self._desk.claim(visit, plan)
        visit.elsewhere = Elsewhere(where.host, cause.value)
        if where.model:
            visit.payload = translated(visit, where.model)
        try:
            await self._envoy.ask(visit, where, profile.request_timeout)
        except AbroadUnavailable as error:
            self._envoy.complain(profile.key, error)
            self._desk.withdraw(visit)
            visit.payload, visit.elsewhere = before, None
            return False
        self._metrics.of(*name_of(profile)).fallbacks[cause.value] += 1
        return True

    def _wake(self, visit: Visit, plan: Plan) -> None:
        """Wake an endpoint for a request that will not wait for it, unless it would not be woken for it either."""
        first, now_us = plan.endpoint, self._wall_us()
        profile = first.profile
        if profile.blocked is not None or (visit.batch and not profile.wakes_for_batch):
            return
        if any(verdict.forbids(True, now_us) for verdict in plan.verdicts):
            return
        self._forwarder.holder.wake(first)
        # It met nobody ready: that is what habits and idle timeouts are learned from.
        self._tracker.arrived(profile.key, profile.uid)
        self._tracker.ended(profile.key, profile.uid)

    def _other(self, visit: Visit, first: Profile, fallback: str, cause: Cause) -> Endpoint | None:
        """Return the fallback where it can take a request: for a cold start's sake none that is cold itself."""
        other = self._registry.endpoints.get(Name(first.namespace, fallback))
        if other is None or other.profile.name == first.name:
            return None
        profile = other.profile
        if profile.blocked is not None or profile.grpc or len(visit.payload.body) > profile.max_body_bytes:
            return None
        if visit.path not in FORWARDED_PATHS and visit.path not in profile.extra_paths:
            return None
        return None if cause is Cause.COLD and other.gate.cold else other


def translated(visit: Visit, model_name: str) -> Payload:
    """Return what was asked of one endpoint as another one is asked it: by the name of its model."""
    payload = visit.payload
    if not is_json(visit.path, visit.exchange.request):
        return payload
    again = asked(payload.body, visit.path).payload(payload.body, visit.path, model_name)
    # That usage was added is not seen any more in a body to which it was added.
    return again._replace(model=payload.model, adds_usage=payload.adds_usage or again.adds_usage)
