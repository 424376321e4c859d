"""What is written down of every attempt to serve a request: usage records, demand, and wakes that it completed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

from pydantic import ValidationError

from zerotide.activator.admission.ejection import Failure
from zerotide.activator.admission.profile import Profile
from zerotide.activator.demand.tracker import Tracker
from zerotide.activator.endpoints.dialler import get
from zerotide.activator.endpoints.endpoint import Endpoint, Replica
from zerotide.activator.endpoints.registry import Registry
from zerotide.activator.failures import ConnectFailed, UpstreamFault
from zerotide.activator.metrics import Metrics
from zerotide.activator.traffic.intake import name_of
from zerotide.activator.traffic.relay import Conveyor
from zerotide.activator.traffic.visit import Visit
from zerotide.activator.usage.backlog import Cause
from zerotide.activator.usage.journal import Journal
from zerotide.activator.usage.lines import intent_facts, intent_line, settlement_line
from zerotide.api.demand import Stamps, Wake, Weights
from zerotide.api.errors import ErrorCode, Rejection
from zerotide.api.usage import Outcome

STARTUP_TIME = 2.0
_WHY = {
    Cause.UNWRITABLE: "it cannot be written down",
    Cause.BYTES: "too much of it waits",
    Cause.RECORDS: "too much of it waits",
    Cause.AGE: "it has waited for too long",
}


class Books:
    """Record attempts, and draw conclusions about replicas from them."""

    def __init__(
        self,
        registry: Registry,
        tracker: Tracker,
        journal: Journal | None,
        metrics: Metrics,
        me: str,
        now: Callable[[], float],
        now_us: Callable[[], int],
        wished: Callable[[Endpoint], Awaitable[None]],
    ) -> None:
        self._registry, self._tracker, self.journal, self._metrics = registry, tracker, journal, metrics
        self._me, self._now, self._now_us, self._wished = me, now, now_us, wished
        self._telling: set[asyncio.Task[None]] = set()

    def facts(self, visit: Visit, endpoint: Endpoint) -> bytes:
        """Return what all records of requests like this one have in common."""
        key_id = visit.caller.key_id if visit.caller is not None else ""
        idempotency_key = visit.exchange.request.get(b"idempotency-key")
        return intent_facts(endpoint.profile, visit.consumer, key_id, self._me, idempotency_key)

    def arrived(self, visit: Visit, endpoint: Endpoint) -> None:
        """Count an admitted request as demand, once."""
        if not visit.counted:
            visit.counted = True
            self._tracker.arrived(endpoint.profile.key, endpoint.profile.uid)

    def began(self, visit: Visit, endpoint: Endpoint, replica: Replica, facts: bytes, now_us: int) -> None:
        """Record that a request is about to be sent, and count it as in flight, as demand too where it is not yet."""
        profile = endpoint.profile
        if visit.counted:
            self._tracker.in_flight(profile.key, profile.uid, 1)
        else:
            visit.counted = True
            self._tracker.came(profile.key, profile.uid, now_us)
        if self.journal is not None:
            visit.entry = self.journal.begin(
                intent_line(
                    facts,
                    visit.id,
                    visit.attempts,
                    replica.quoted_uid,
                    _adapter(visit, profile) if profile.adapters else "",
                    visit.payload.stream,
                    visit.cold,
                    profile.wake_id if visit.cold else "",
                    visit.accepted_us,
                    now_us,
                    len(visit.payload.body),
                ),
                surely=_never_unbilled(visit, profile),
            )

    def first_byte(self, visit: Visit, endpoint: Endpoint, replica: Replica) -> int:
        """Note the first byte of an answer, which may complete a wake; return when it came."""
        first_us = self._now_us()
        visit.first_byte = self._now()
        if endpoint.demand_us is not None:
            stamps = endpoint.stamps(replica, first_us)
            if stamps is not None:
                task = asyncio.get_running_loop().create_task(self._tell_wake(endpoint, replica, stamps))
                self._telling.add(task)
                task.add_done_callback(self._telling.discard)
        return first_us

    def ended(
        self, visit: Visit, endpoint: Endpoint, attempt: int, relay: Conveyor, first_us: int | None, outcome: Outcome
    ) -> int:
        """Record how an attempt ended, and count it no longer, nor its request as demand; return when that was."""
        profile = endpoint.profile
        ended_us = self._now_us()
        if visit.counted and outcome is Outcome.COMPLETED:
            visit.counted = False
            self._tracker.went(profile.key, profile.uid, ended_us)
        else:
            self._tracker.in_flight(profile.key, profile.uid, -1)
        if self.journal is not None:
            status = relay.status
            line = settlement_line(visit.id, attempt, first_us, ended_us, relay.bytes, relay.tokens, outcome, status)
            if not self.journal.settle(line, visit.entry) and not _never_unbilled(visit, profile):
                self._metrics.of(*name_of(profile)).unrecorded += 1
                self.journal.lost((profile.namespace, profile.name, visit.consumer), ended_us)
        return ended_us

    def refusal(self, profile: Profile, *, always: bool = False) -> Rejection | None:
        """Return the answer to a request that could not be billed and so is not to be served, None to all others.

        With `always` that is so whatever the endpoint says.
        """
        if not (always or profile.denies_unbilled):
            return None
        if self.journal is None:
            return _unbilled(profile, "this gateway records none")
        closed = self.journal.closed
        return _unbilled(profile, _WHY[closed]) if closed is not None else None

    def unwritten(self, visit: Visit, profile: Profile) -> Rejection | None:
        """Return the same for a request that was admitted and is to be sent: by what became of its record."""
        if not _never_unbilled(visit, profile) or visit.entry.written:
            return None
        return _unbilled(profile, _WHY[Cause.UNWRITABLE])

    def judge(self, endpoint: Endpoint, replica: Replica, relay: Conveyor) -> None:
        """Draw conclusions about a replica from an answer, or from none."""
        if relay.fault is None and relay.status < 500:
            replica.did_well()
            return
        if isinstance(relay.fault, ConnectFailed):
            how = Failure.CONNECT
        elif relay.fault is not None:
            how = Failure.CUT if relay.status else Failure.LOST
        else:
            how = Failure.STATUS
        if self._registry.failed(endpoint, replica, how):
            self._metrics.of(*name_of(endpoint.profile)).ejections[how.value] += 1

    async def _tell_wake(self, endpoint: Endpoint, replica: Replica, stamps: Stamps) -> None:
        runtime, weights = None, None
        try:
            answer = await get(replica.pool, "/startup", endpoint.profile.key, STARTUP_TIME)
            if answer.status == 200:
                runtime, weights = stages_of(answer.body), weights_of(answer.body)
        except (UpstreamFault, TimeoutError):
            pass
        await self._wished(endpoint)
        profile = endpoint.profile
        if profile.wake_id:
            wake = Wake(
                at_us=self._now_us(),
                endpoint=profile.key,
                uid=profile.uid,
                id=profile.wake_id,
                stamps=stamps,
                runtime=runtime,
                weights=weights,
            )
            self._tracker.woke(wake)


def _adapter(visit: Visit, profile: Profile) -> str:
    """Return the adapter that a request asks for, empty where that is the model itself."""
    asked = visit.payload.adapter
    if asked:
        return asked if asked in profile.adapters else ""
    # Who serves in another's place is asked for its model.
    return profile.adapter_of(visit.payload.model) if visit.elsewhere is None else ""


def _never_unbilled(visit: Visit, profile: Profile) -> bool:
    """Tell whether a request is refused rather than served without a record."""
    return profile.denies_unbilled or visit.hold is not None


def _unbilled(profile: Profile, why: str) -> Rejection:
    text = f"endpoint {profile.key} serves nothing unbilled, and usage cannot be brought to the ledger now: {why}"
    return Rejection(ErrorCode.LEDGER_UNAVAILABLE, text)


def weights_of(body: bytes) -> Weights | None:
    """Return what a runtime tells of its model; None where it tells nothing, or what it says makes no sense."""
    try:
        return Weights.model_validate(_startup(body)["model"])
    except (KeyError, ValidationError):
        return None


def _startup(body: bytes) -> dict[str, Any]:
    try:
        content: Any = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def stages_of(body: bytes) -> dict[str, float] | None:
    """Return the stages of its start that a runtime tells, in milliseconds; None where it tells none."""
    stages = _startup(body).get("stages")
    if isinstance(stages, list):
        stages = {stage.get("name"): stage.get("ms") for stage in stages if isinstance(stage, dict)}
    if not isinstance(stages, dict):
        return None
    numbers = {
        str(name)[:64]: float(value)
        for name, value in stages.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e9
    }
    return numbers or None
