"""Deliver the webhooks of budgets: one courier for each budget that has something to deliver, and none otherwise.

What was delivered is written into the budget's status by a field manager of its own, so that no restart sends it again.
Who dies between a receiver's answer and that write sends it once more, under the same webhook-id.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

from zerotide.api.budget import Budget, BudgetStatus
from zerotide.api.names import MANAGER_WEBHOOKS
from zerotide.api.scalars import SECOND, format_time, parse_time
from zerotide.api.webhooks import Delivery, Webhook
from zerotide.billing.thresholds import Told, retry_after, told_of
from zerotide.exporter.errors import DeliveryFailed, ReceiverGone
from zerotide.kube import Client, Clock, KubeError, NotFound, Notice, Object, Recorder
from zerotide.kube.resources import BUDGETS

log = logging.getLogger(__name__)

AT_ONCE = 16
"""Webhooks that are under way at a time; each budget's go one by one."""
MOST_WRITTEN = 64
WRITE_AGAIN_S = 5.0
"""Seconds until a status that was not taken is written again."""


class Sending(Protocol):
    """What sends a webhook once."""

    async def send(self, namespace: str, webhook: Webhook, id: str, body: bytes) -> None:
        """Return once it is taken. Raises the kinds of DeliveryFailed."""


class _Round:
    """What one budget has to deliver, and what became of what it had."""

    def __init__(self, namespace: str, name: str) -> None:
        self.budget = namespace, name
        self.pending: dict[str, tuple[Told, float]] = {}
        """What is to be sent, and when, by the monotonic clock."""
        self.known: dict[str, Delivery] = {}
        self.changed = asyncio.Event()
        self.task: asyncio.Task[None] | None = None
        self.unwritten = False


class Couriers:
    """Deliver what budgets have to tell; `leads` tells whether this exporter is the one that does."""

    def __init__(
        self,
        client: Client,
        sender: Sending,
        recorder: Recorder,
        clock: Clock,
        leads: Callable[[], bool],
        rng: random.Random | None = None,
    ) -> None:
        self._client, self._sender, self._recorder, self._clock = client, sender, recorder, clock
        self._leads, self._rng = leads, rng or random.Random()
        self._rounds: dict[str, _Round] = {}
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._failed: asyncio.Future[None] | None = None
        self.sent: Counter[tuple[str, str, str]] = Counter()
        """Attempts by namespace, budget and outcome."""

    def see(self, budget: Budget, status: BudgetStatus) -> None:
        """Take in what is reached of a budget by a status that is written, and deliver what nobody was told yet."""
        uid = budget.metadata.uid
        if not self._leads():
            self.forget(uid)
            return
        told = {each.id: each for each in told_of(budget, status)}
        if uid not in self._rounds and not told:
            return
        round = self._rounds.setdefault(uid, _Round(budget.metadata.namespace, budget.metadata.name))
        self._recall(round, budget, told)
        for each in told.values():
            known = round.known.get(each.id)
            if each.id in round.pending:
                # The Secret that it names may be another one now.
                round.pending[each.id] = (each, round.pending[each.id][1])
            elif known is None or known.state == "Retrying":
                self._plan(round, each, known.attempts if known else 0)
                round.changed.set()
        if (round.pending or round.unwritten) and round.task is None:
            round.task = asyncio.create_task(self._go(budget, round), name=f"webhooks of {budget.key}")

    def forget(self, uid: str) -> None:
        """Deliver nothing more of a budget."""
        round = self._rounds.pop(uid, None)
        if round is not None and round.task is not None:
            round.task.cancel()

    def undelivered(self) -> Counter[tuple[str, str, str]]:
        """Count what was sent in vain in the present windows, by namespace, budget and state."""
        return Counter(
            (*round.budget, delivery.state.lower())
            for round in self._rounds.values()
            for delivery in round.known.values()
            if delivery.state != "Delivered"
        )

    async def run(self) -> None:
        """Raise what a courier could not handle; end all couriers when cancelled."""
        self._failed = asyncio.get_running_loop().create_future()
        try:
            await self._failed
        finally:
            tasks = [round.task for round in self._rounds.values() if round.task is not None]
            self._rounds.clear()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _recall(self, round: _Round, budget: Budget, told: dict[str, Told]) -> None:
        """Remember what the status says of what is told in this window, and forget what concerns nobody any more."""
        there = {(each.name, each.url) for each in budget.spec.notify}
        for id, (each, _) in list(round.pending.items()):
            if (each.webhook.name, each.webhook.url) not in there:
                del round.pending[id]
        for id in [id for id in round.known if id not in told and id not in round.pending]:
            del round.known[id]
        for earlier in budget.status.deliveries or ():
            if earlier.id in told:
                round.known.setdefault(earlier.id, earlier)

    def _plan(self, round: _Round, told: Told, attempts: int, wait_s: float = 0.0) -> bool:
        """Have a webhook sent when it is due; False where its time is over."""
        delay = retry_after(attempts, (self._clock.now_us() - parse_time(told.since)) / SECOND)
        if delay is None:
            return False
        # A tenth more at most, so that what failed together does not come again together.
        due = self._clock.monotonic() + max(delay * (1 + self._rng.random() / 10), wait_s)
        round.pending[told.id] = (told, due)
        return True

    async def _go(self, budget: Budget, round: _Round) -> None:
        try:
            while round.pending or round.unwritten:
                if round.unwritten:
                    await self._write(budget, round)
                await self._next(budget, round)
        except asyncio.CancelledError:
            raise
        except Exception as error:
            if self._failed is not None and not self._failed.done():
                self._failed.set_exception(error)
        finally:
            round.task = None

    async def _next(self, budget: Budget, round: _Round) -> None:
        """Send what is due, or wait for it, for something new, or until the status may be written again."""
        round.changed.clear()
        now = self._clock.monotonic()
        told, due = min(round.pending.values(), key=lambda each: each[1], default=(None, now))
        if told is not None and due <= now:
            async with self._slots:
                await self._send(budget, round, told)
            return
        waits = [due - now] if told is not None else []
        waits += [WRITE_AGAIN_S] if round.unwritten else []
        if waits:
            with suppress(TimeoutError):
                async with asyncio.timeout(min(waits)):
                    await round.changed.wait()

    async def _send(self, budget: Budget, round: _Round, told: Told) -> None:
        known = round.known.get(told.id)
        attempts = (known.attempts if known else 0) + 1
        failure: DeliveryFailed | None = None
        try:
            await self._sender.send(budget.metadata.namespace, told.webhook, told.id, told.body)
        except DeliveryFailed as error:
            failure = error
        round.pending.pop(told.id, None)
        again = False
        if failure is not None and not isinstance(failure, ReceiverGone):
            again = self._plan(round, told, attempts, failure.wait_s)
        delivery = Delivery(
            id=told.id,
            webhook=told.webhook.name,
            percent=told.percent,
            state="Delivered" if failure is None else "Retrying" if again else "Failed",
            attempts=attempts,
            time=format_time(self._clock.now_us()),
            message=str(failure)[:256] if failure is not None else None,
        )
        round.known.pop(told.id, None)  # what was sent last is written last
        round.known[told.id] = delivery
        round.unwritten = True
        self.sent[budget.metadata.namespace, budget.metadata.name, delivery.state.lower()] += 1
        if failure is not None:
            log.warning("a webhook was not taken", extra={"budget": budget.key, "delivery": delivery.dump()})
        if delivery.state == "Failed":
            text = f"webhook {delivery.webhook} of {delivery.percent} % is given up: {delivery.message}"
            self._recorder.tell_once(reference(budget), Notice("Warning", "WebhookFailed", text), delivery.id)

    async def _write(self, budget: Budget, round: _Round) -> None:
        """Write what became of all; what is not taken is written later."""
        known = tuple(round.known.values())[-MOST_WRITTEN:]
        round.unwritten = False
        metadata = budget.metadata
        body = {
            # By its uid nothing of this is written to another budget that has its name by now.
            "metadata": {"namespace": metadata.namespace, "name": metadata.name, "uid": metadata.uid},
            "status": BudgetStatus(deliveries=known).dump(),
        }
        try:
            await self._client.apply(BUDGETS, body, MANAGER_WEBHOOKS, subresource="status")
        except NotFound:
            return
        except KubeError as error:
            round.unwritten = True
            log.warning("what became of webhooks is not written", extra={"budget": budget.key, "error": str(error)})


def reference(budget: Budget) -> Object:
    """Return what an Event is about."""
    metadata = budget.metadata
    return {
        "apiVersion": budget.api_version,
        "kind": budget.kind,
        "metadata": {"namespace": metadata.namespace, "name": metadata.name, "uid": metadata.uid},
    }
