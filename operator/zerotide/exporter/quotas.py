"""Hand out quota slices to activators, and take back those of pods that are no more.

A slice that is not renewed is not simply taken back: its holder may have used it and not said so yet. It ends when its
holder says so, when the holder's successor has brought all usage of its predecessor, or with the pod and its log.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence

from zerotide.api.budget import Budget, InFlight
from zerotide.api.quota import MOST, TTL_S, Ask, Grant, Grants, Wish
from zerotide.api.scalars import SECOND, format_time
from zerotide.billing.errors import UnknownZone
from zerotide.billing.prices import PriceIndex
from zerotide.billing.quotas import Hold, Holder, Room, resets, room, windows_at
from zerotide.billing.rollups import Usage, UsageKey
from zerotide.exporter.errors import StoreUnavailable, Unmeasured
from zerotide.exporter.measures import Timed, measure_of
from zerotide.exporter.store import Store
from zerotide.exporter.threads import Threaded
from zerotide.kube import Client, Key, KubeError, NotFound
from zerotide.kube.clock import Clock
from zerotide.kube.resources import PODS

log = logging.getLogger(__name__)

LOOK_S = 5.0
"""Seconds between two looks for slices whose holders are gone."""


class QuotaDesk:
    """Answer asks; `budget` returns one that is known, `namespace` is the activators'.

    `timed` returns what the time of a budget of money has cost as far as it is reckoned, by the start of the window.
    """

    def __init__(
        self,
        client: Client,
        store: Threaded[Store],
        budget: Callable[[Key], Budget | None],
        prices: Callable[[], PriceIndex],
        timed: Callable[[Key], Timed | None],
        namespace: str,
        clock: Clock,
    ) -> None:
        self._client, self._store, self._budget, self._prices, self._timed = client, store, budget, prices, timed
        self._namespace, self._clock = namespace, clock
        self._youngest: dict[tuple[str, str], int] = {}
        self.held: Mapping[Key, int] = {}
        """What is reserved of each budget, at the last look."""

    async def answer(self, ask: Ask) -> Grants:
        """Reserve what fits. Raises StoreError."""
        holder = Holder(ask.pod, ask.process, ask.born_us)
        if ask.born_us < self._youngest.setdefault(holder[:2], ask.born_us):
            return Grants(grants=None)
        self._youngest[holder[:2]] = ask.born_us
        if ask.inherited:
            await self._store.run(lambda store: store.holds.outlive(holder))
        grants: list[Grant] = []
        for wish in ask.wishes:
            grant = await self._grant(wish, holder, ask.number)
            if grant is None:
                return Grants(grants=None)
            grants.append(grant)
        return Grants(grants=tuple(grants))

    async def run(self) -> None:
        """Take back the slices of those who are gone, for ever."""
        while True:
            try:
                await self.sweep()
            except StoreUnavailable as error:
                log.warning("quota slices cannot be looked at", extra={"error": str(error)})
            await asyncio.sleep(LOOK_S)

    async def sweep(self) -> None:
        """Forget what holders had reserved whose pods are no more, and their logs with them. Raises StoreError."""
        holds, now_us = await self._store.run(lambda store: store.holds.all()), self._clock.now_us()
        due = [each for each in holds if each.until_us <= now_us]
        gone = {pod for pod in sorted({each.holder.pod for each in due}) if await self._is_gone(pod)}
        over = [each for each in due if each.holder.pod in gone]
        if over:
            await self._store.run(lambda store: store.holds.forget(over))
            amount = sum(each.amount for each in over)
            log.info("quota slices of pods that are gone are taken back", extra={"amount": amount})
            self._youngest = {key: born for key, born in self._youngest.items() if key[0] not in gone}
        held: dict[Key, int] = {}
        for each in holds:
            if each not in over:
                held[each.namespace, each.budget] = held.get((each.namespace, each.budget), 0) + each.amount
        self.held = held

    async def _is_gone(self, pod: str) -> bool:
        try:
            await self._client.get(PODS, pod, self._namespace)
        except NotFound:
            return True
        except KubeError as error:
            log.warning("an activator's pod cannot be looked at", extra={"pod": pod, "error": str(error)})
        return False

    async def _grant(self, wish: Wish, holder: Holder, number: int) -> Grant | None:
        """Return what a holder has of a budget from now on, None where a later ask was first."""
        budget = self._budget((wish.namespace, wish.budget))
        if budget is None or budget.spec.in_flight is not InFlight.END:
            return Grant(amount=None)
        now_us = self._clock.now_us()
        try:
            windows, end_us = windows_at(budget.spec.window, now_us), resets(budget.spec.window, now_us)
            timed = self._timed((wish.namespace, wish.budget))
            measure = measure_of(budget.spec, wish.namespace, windows, self._prices(), timed, now_us)
        except UnknownZone as error:
            log.error("a budget has no window", extra={"budget": budget.key, "error": str(error)})
            return Grant(amount=None)
        except Unmeasured as error:
            return Grant(amount=None, reason=str(error))
        until_us = now_us + round(TTL_S * SECOND)
        found: list[Room] = []

        def decide(usages: Sequence[Mapping[UsageKey, Usage]], others: int) -> int:
            needs = measure.needs(wish)
            found.append(room(measure.limit, measure.used(usages), others, wish.keep, needs, wish.spare))
            # An engine that tells of far too many tokens must not stop a ledger whose integers have 64 bits.
            return min(found[0].amount, MOST)

        if measure.currency and len(wish.wants) != len(wish.needs):
            # Amounts of money would be spent as tokens by who takes them for such.
            return Grant(amount=None, reason="this activator takes it for one of tokens: it is of an older version")
        hold = Hold(wish.namespace, wish.budget, holder, number, 0, until_us)
        if not await self._store.run(lambda store: store.holds.reserve(hold, measure.periods, decide)):
            return None
        return Grant(
            amount=found[0].amount,
            left=found[0].left,
            limit=measure.limit,
            resets=format_time(end_us) if end_us is not None else "",
            tariff=measure.tariff,
            currency=measure.currency,
        )
