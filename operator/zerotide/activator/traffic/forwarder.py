"""Bring an admitted request to a replica, and to another one where the first was lost before it answered."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from zerotide.activator.admission.ejection import Failure
from zerotide.activator.demand.tracker import Tracker
from zerotide.activator.endpoints.dialler import get
from zerotide.activator.endpoints.endpoint import Endpoint, Replica
from zerotide.activator.endpoints.registry import Registry
from zerotide.activator.failures import ConnectFailed, ResponseLost, UpstreamFault
from zerotide.activator.metrics import Metrics
from zerotide.activator.traffic.holder import Holder
from zerotide.activator.traffic.intake import name_of
from zerotide.activator.traffic.outgoing import upstream_headers
from zerotide.activator.traffic.relay import Relay
from zerotide.activator.traffic.visit import Visit
from zerotide.activator.traffic.way import Source, Way
from zerotide.activator.usage.journal import Journal
from zerotide.activator.wire import render_request
from zerotide.api.demand import Stamps, Wake
from zerotide.api.errors import ErrorCode, Rejection
from zerotide.api.usage import Intent, Outcome, Settlement

log = logging.getLogger(__name__)

MOST_ATTEMPTS = 3
STARTUP_TIME = 2.0


class Plain:
    """The way of a request whose whole body was read: it goes out over HTTP/1.1, as often as needed."""

    __slots__ = ("_request", "_visit")

    def __init__(self, visit: Visit) -> None:
        self._visit = visit
        self._request = render_request("POST", visit.target, upstream_headers(visit), visit.payload.body)

    def size(self) -> int:
        """Return the size of the body."""
        return len(self._request[1])

    def timeout(self, longest: float) -> float:
        """The client announces none that counts here."""
        return longest

    def relay(self, on_first: Callable[[], None]) -> Relay:
        """Return what takes the answer."""
        return Relay(self._visit, on_first)

    def repeatable(self) -> bool:
        """The body is kept."""
        return True

    async def send(self, replica: Replica, relay: Relay, *, fresh: bool = False) -> Source:
        """Send it over one of the replica's connections."""
        return await replica.pool.send(self._request, relay, fresh=fresh)


class Forwarder:
    """Forward requests, record their usage, and tell of the wakes that they complete."""

    def __init__(
        self,
        registry: Registry,
        holder: Holder,
        tracker: Tracker,
        journal: Journal | None,
        metrics: Metrics,
        me: str,
        now: Callable[[], float],
        now_us: Callable[[], int],
        wished: Callable[[Endpoint], Awaitable[None]],
    ) -> None:
        self._wished = wished
        self._registry, self._holder, self._tracker = registry, holder, tracker
        self._journal, self._metrics, self._me = journal, metrics, me
        self._now, self._now_us = now, now_us
        self._telling: set[asyncio.Task[None]] = set()

    async def forward(self, visit: Visit, endpoint: Endpoint) -> None:
        """Hold a request until it may go, send it, pass its answer on.

        Raises a Rejection where there will be no answer.
        """
        place = self._holder.place(visit, endpoint)
        try:
            way = visit.way or Plain(visit)
            while True:
                seat = await self._holder.seat(place, again=visit.attempts > 0)
                visit.queued_ms = round((self._now() - visit.started) * 1000)
                visit.attempts += 1
                if await self._attempt(visit, endpoint, seat.replica, way):
                    return
                if not way.repeatable():
                    raise Rejection(ErrorCode.UPSTREAM_LOST, "the replica was lost, and the request cannot be repeated")
                self._look_again(visit, endpoint)
        finally:
            place.leave()

    async def _attempt(self, visit: Visit, endpoint: Endpoint, replica: Replica, way: Way) -> bool:
        """Send a request once; False where it may be sent again."""
        profile = endpoint.profile
        handed_us, attempt = self._now_us(), visit.attempts
        first_us: int | None = None

        def on_first() -> None:
            nonlocal first_us
            first_us = self._now_us()
            visit.first_byte = self._now()
            self._complete_wake(endpoint, replica, first_us)

        relay = way.relay(on_first)
        timeout = way.timeout(profile.request_timeout)
        self._record(self._intent(visit, endpoint, replica, handed_us))
        self._tracker.in_flight(profile.key, profile.uid, 1)
        outcome = Outcome.CLIENT_GONE
        try:
            outcome = await self._exchange(visit, replica, way, relay, timeout)
        finally:
            self._tracker.in_flight(profile.key, profile.uid, -1)
            if visit.exchange.overruled is not None:
                outcome = Outcome.TIMED_OUT
            ended_us = self._now_us()
            self._record(
                Settlement(
                    request_id=visit.id,
                    attempt=attempt,
                    first_byte_us=first_us,
                    ended_us=ended_us,
                    response_bytes=relay.bytes,
                    tokens=relay.tokens,
                    outcome=outcome,
                    status=relay.status,
                )
            )
        if outcome in (Outcome.COMPLETED, Outcome.LOST):
            self._judge(endpoint, replica, relay)
        if outcome is Outcome.COMPLETED:
            endpoint.services.add(ended_us - handed_us)
            return True
        if outcome is Outcome.TIMED_OUT:
            raise Rejection(ErrorCode.UPSTREAM_TIMEOUT, f"the answer took longer than {timeout:g} s")
        if relay.status:
            raise Rejection(ErrorCode.UPSTREAM_LOST, "the replica was lost while it answered")
        return False

    async def _exchange(self, visit: Visit, replica: Replica, way: Way, relay: Relay, timeout: float) -> Outcome:
        connection: Source | None = None
        finished = False
        try:
            async with asyncio.timeout(timeout):
                connection = await way.send(replica, relay)
                visit.exchange.flow = connection
                await relay.done
                if (
                    isinstance(relay.fault, ResponseLost)
                    and relay.fault.reused
                    and not relay.status
                    and way.repeatable()
                ):
                    # An idle connection that the replica closed just then: not its failure.
                    relay.fault, relay.done = None, asyncio.get_running_loop().create_future()
                    connection = await way.send(replica, relay, fresh=True)
                    visit.exchange.flow = connection
                    await relay.done
            finished = True
        except ConnectFailed as fault:
            finished = True
            relay.fault = fault
        except TimeoutError:
            return Outcome.TIMED_OUT
        finally:
            visit.exchange.flow = None
            if not finished and connection is not None:
                connection.abort()
        return Outcome.COMPLETED if relay.fault is None else Outcome.LOST

    def _judge(self, endpoint: Endpoint, replica: Replica, relay: Relay) -> None:
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

    def _look_again(self, visit: Visit, endpoint: Endpoint) -> None:
        """Decide whether a request whose replica was lost may wait for another one."""
        if visit.attempts >= MOST_ATTEMPTS:
            raise Rejection(ErrorCode.UPSTREAM_LOST, f"the replica was lost in {visit.attempts} attempts")
        if self._registry.endpoints.get(name_of(endpoint.profile)) is not endpoint:
            raise Rejection(ErrorCode.ENDPOINT_NOT_FOUND, f"endpoint {endpoint.profile.key} was deleted")
        if endpoint.profile.blocked is not None:
            raise endpoint.profile.blocked.rejection(self._now_us())
        self._metrics.of(*name_of(endpoint.profile)).retries += 1

    def _record(self, record: Intent | Settlement) -> None:
        if self._journal is not None:
            self._journal.append(record)

    def _intent(self, visit: Visit, endpoint: Endpoint, replica: Replica, now_us: int) -> Intent:
        profile = endpoint.profile
        return Intent(
            request_id=visit.id,
            attempt=visit.attempts,
            namespace=profile.namespace,
            endpoint=profile.name,
            endpoint_uid=profile.uid,
            consumer=visit.consumer,
            key_id=visit.caller.key_id if visit.caller is not None else "",
            pod_uid=replica.uid,
            activator=self._me,
            model=profile.model_name,
            stream=visit.payload.stream,
            cold=visit.cold,
            wake_id=profile.wake_id if visit.cold else "",
            accepted_us=visit.accepted_us,
            forwarded_us=now_us,
            request_bytes=len(visit.payload.body),
            idempotency_key=visit.exchange.request.get(b"idempotency-key")[:256],
        )

    def _complete_wake(self, endpoint: Endpoint, replica: Replica, first_byte_us: int) -> None:
        stamps = endpoint.stamps(replica, first_byte_us)
        if stamps is None:
            return
        task = asyncio.get_running_loop().create_task(self._tell_wake(endpoint, replica, stamps))
        self._telling.add(task)
        task.add_done_callback(self._telling.discard)

    async def _tell_wake(self, endpoint: Endpoint, replica: Replica, stamps: Stamps) -> None:
        runtime = None
        try:
            answer = await get(replica.pool, "/startup", endpoint.profile.key, STARTUP_TIME)
            if answer.status == 200:
                runtime = stages_of(answer.body)
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
            )
            self._tracker.woke(wake)


def stages_of(body: bytes) -> dict[str, float] | None:
    """Return the stages of its start that a runtime tells, in milliseconds; None where it tells none."""
    try:
        content: Any = json.loads(body)
    except (ValueError, RecursionError):
        return None
    stages = content.get("stages") if isinstance(content, dict) else None
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
