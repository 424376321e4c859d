"""Keep budgets: what is used up of each, as a status that the activators go by.

What is sealed is read once for each seal; what is not yet is folded anew at each look. A look takes its time from
the next one, so that budgets cost a twentieth of a core at most, and nothing where there are none.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from fractions import Fraction
from functools import partial
from typing import NamedTuple

from zerotide.api.budget import Budget, BudgetAction, BudgetStatus, LimitType, Reached
from zerotide.api.failures import InvalidObject
from zerotide.api.names import MANAGER_EXPORTER
from zerotide.api.scalars import MINUTE, SECOND, parse_time
from zerotide.billing.budgets import (
    EVER,
    Spent,
    SpentKey,
    Standing,
    standing,
    status_of,
    time_cost,
    used,
    window_of,
    worth_writing,
)
from zerotide.billing.errors import UnknownZone
from zerotide.billing.prices import PriceIndex
from zerotide.billing.rating import Line, Period, add_line
from zerotide.billing.rollups import QUARTER, Usage, UsageKey
from zerotide.billing.sealing import Charges, bucket_of
from zerotide.billing.thresholds import reached
from zerotide.exporter.errors import StoreUnavailable
from zerotide.exporter.sealer import rated
from zerotide.exporter.store import Store
from zerotide.exporter.threads import Threaded
from zerotide.exporter.webhooks.couriers import Couriers, reference
from zerotide.kube import Change, Client, Conflict, Key, KubeError, NotFound, Notice, Recorder, Reflector
from zerotide.kube.clock import Clock
from zerotide.kube.resources import BUDGETS

log = logging.getLogger(__name__)

SOONEST_S = 1.0
"""Seconds between two looks."""
SHARE = 20
"""How many times as long as a look took is waited until the next one."""
PACE_US = MINUTE
"""How old a status may become of which only the amount has changed."""
BEAT_US = 20 * SECOND
"""How old a status may become by which activators know that what is used up is known, a third of what they wait for."""
TELL_US = 10 * MINUTE
"""How old news an Event still tells after a restart: less than the hour for which Events are kept, by whose names what
was told is found again."""


class Ratio(NamedTuple):
    """What part of a budget is used up."""

    namespace: str
    budget: str
    ratio: float


class BudgetTask:
    """Follow budgets, reckon what is used up, and write it into their statuses."""

    def __init__(
        self,
        client: Client,
        store: Threaded[Store],
        prices: Callable[[], PriceIndex],
        recorder: Recorder,
        clock: Clock,
        couriers: Couriers,
    ) -> None:
        self.reflector = Reflector(client, BUDGETS, on_change=self._changed)
        self._client, self._store, self._prices = client, store, prices
        self._recorder, self._clock, self._couriers = recorder, clock, couriers
        self._budgets: dict[Key, Budget] = {}
        self._written: dict[Key, tuple[BudgetStatus, int]] = {}
        self._sealed: dict[tuple[str, Period], tuple[int, Spent]] = {}
        self._look = asyncio.Event()
        self._times: dict[Key, dict[int, Fraction]] = {}
        self.ratios: list[Ratio] = []
        self.looks = 0

    async def run(self) -> None:
        """Look for ever."""
        await self.reflector.synced.wait()
        while True:
            self._look.clear()
            began = self._clock.monotonic()
            if self._budgets:
                await self._refresh()
            self.looks += 1
            pause = max(SOONEST_S, SHARE * (self._clock.monotonic() - began)) if self._budgets else None
            try:
                async with asyncio.timeout(pause):
                    await self._look.wait()
            except TimeoutError:
                pass

    def known(self, key: Key) -> Budget | None:
        """Return a budget as it was last seen."""
        return self._budgets.get(key)

    def timed(self, key: Key) -> Mapping[int, Fraction] | None:
        """Return what time has cost of a budget of money, at the last look, by the start of this window and the last.

        None where that is not reckoned yet.
        """
        return self._times.get(key)

    def _changed(self, change: Change) -> None:
        key = (change.object["metadata"]["namespace"], change.object["metadata"]["name"])
        if change.type == "deleted":
            self._couriers.forget(change.object["metadata"].get("uid", ""))
            self._budgets.pop(key, None)
            self._written.pop(key, None)
            self._times.pop(key, None)
            self._look.set()
            return
        try:
            budget = Budget.parse(change.object)
        except InvalidObject as error:
            log.error("a budget cannot be read", extra={"budget": "/".join(key), "error": str(error)})
            return
        known = self._budgets.get(key)
        self._budgets[key] = budget
        if known is not None and known.spec != budget.spec:
            self._times.pop(key, None)
        if known is not None and known.metadata.uid != budget.metadata.uid:
            self._couriers.forget(known.metadata.uid)
            self._written.pop(key, None)
        if known is None or known.metadata.uid != budget.metadata.uid or known.spec != budget.spec:
            self._look.set()

    async def _refresh(self) -> None:
        """Look at every budget, and write down what has changed."""
        budgets, now_us = dict(self._budgets), self._clock.now_us()
        try:
            found = await self._store.run(partial(self._standings, budgets=budgets, now_us=now_us))
        except StoreUnavailable as error:
            log.warning("budgets cannot be reckoned", extra={"error": str(error)})
            return
        for key, each in found.items():
            self._note_time(key, budgets[key], each)
        self.ratios = [Ratio(*key, float(each.used / each.limit) if each.limit else 1.0) for key, each in found.items()]
        currency = self._prices().book.currency
        for key, each in found.items():
            await self._tell(budgets[key], each, status_of(budgets[key], each, (currency,), now_us))

    def _note_time(self, key: Key, budget: Budget, found: Standing) -> None:
        """Keep what time has cost, for who reserves of the rest; of a spec that has changed meanwhile nothing is."""
        known = self._budgets.get(key)
        if known is None or known.spec != budget.spec:
            return
        # Near the end of a window there must be room in the last one and in the next.
        mine = self._times.setdefault(key, {})
        mine[found.window.start_us] = found.time
        for old in sorted(mine)[:-2]:
            del mine[old]

    def _standings(self, store: Store, *, budgets: Mapping[Key, Budget], now_us: int) -> dict[Key, Standing]:
        spent: dict[tuple[str, Period], Spent] = {}
        tokens: dict[tuple[str, Period], Mapping[UsageKey, Usage]] = {}
        found: dict[Key, Standing] = {}
        for (namespace, name), budget in budgets.items():
            try:
                window = window_of(budget.spec.window, now_us)
            except UnknownZone as error:
                log.error("a budget has no window", extra={"budget": f"{namespace}/{name}", "error": str(error)})
                continue
            where = (namespace, window)
            if budget.spec.limit.type is LimitType.TOKENS:
                if where not in tokens:
                    tokens[where] = store.usage(namespace, "", Period(window.start_us, min(window.end_us, now_us + 1)))
            elif where not in spent:
                spent[where] = self._spent(store, namespace, window, now_us)
            amount = used(budget.spec, namespace, spent.get(where, {}), tokens.get(where, {}))
            time = time_cost(budget.spec, namespace, spent.get(where, {}))
            found[namespace, name] = standing(budget.spec, window, amount)._replace(time=time)
        self._sealed = {where: kept for where, kept in self._sealed.items() if where in spent}
        return found

    def _spent(self, store: Store, namespace: str, window: Period, now_us: int) -> Spent:
        """Return what was used up in a window: what is sealed of it, and a fresh fold of the rest."""
        head = store.seals.head()
        since = bucket_of(window.start_us)
        sealed: Spent = {}
        if head is not None and head.end_us > since:
            number, sealed = self._sealed.get((namespace, window), (0, {}))
            if number != head.number:
                sealed = summed(store.seals.charged(namespace, "", Period(since, min(head.end_us, _end(window)))))
                self._sealed[namespace, window] = (head.number, sealed)
            since = head.end_us
        until = min(bucket_of(now_us) + QUARTER, _end(window))
        if since >= until:
            return sealed
        found = dict(sealed)
        for key, line in summed(rated(store, self._prices(), namespace, "", Period(since, until), now_us)).items():
            add_line(found, key, line)
        return found

    async def _tell(self, budget: Budget, found: Standing, status: BudgetStatus) -> None:
        """Write a status where that is worth it, and tell of the thresholds that are reached, each once a window."""
        key = (budget.metadata.namespace, budget.metadata.name)
        known, written_us = self._written.get(key) or (budget.status, _time_of(budget.status))
        now_us = self._clock.now_us()
        status = status.model_copy(update={"reached": reached(budget, known, found, status) or None})
        age_us = now_us - written_us
        beat = budget.spec.on_ledger_failure == "Deny" and age_us >= BEAT_US
        if beat or worth_writing(known, status, age_us, PACE_US):
            # By its uid nothing of this is written to another budget that has its name by now.
            metadata = {"namespace": key[0], "name": key[1], "uid": budget.metadata.uid}
            body = {"metadata": metadata, "status": status.dump()}
            try:
                await self._client.apply(BUDGETS, body, MANAGER_EXPORTER, subresource="status")
            except NotFound:
                return
            except (Conflict, KubeError) as error:
                log.warning("a budget's status is not written", extra={"budget": budget.key, "error": str(error)})
                return
            if not self._is_there(budget):
                return
            self._written[key] = (status, now_us)
        for each in status.reached or ():
            if now_us - parse_time(each.time) < TELL_US:
                once = f"{found.window.start_us} {found.limit} {each.percent}"
                self._recorder.tell_once(reference(budget), _notice(status, each), once)
        self._couriers.see(budget, status)

    def _is_there(self, budget: Budget) -> bool:
        """Tell whether a budget was neither deleted nor made anew meanwhile."""
        known = self._budgets.get((budget.metadata.namespace, budget.metadata.name))
        return known is not None and known.metadata.uid == budget.metadata.uid


def summed(charges: Charges) -> dict[SpentKey, Line]:
    """Return charges by who used what of which endpoint."""
    found: dict[SpentKey, Line] = {}
    for key, line in charges.items():
        add_line(found, SpentKey(key.endpoint, key.line.consumer, key.line.meter, key.currency), line)
    return found


def _end(window: Period) -> int:
    """Return the end of a window's last bucket."""
    return window.end_us if window.end_us >= EVER else bucket_of(window.end_us - 1) + QUARTER


def _time_of(status: BudgetStatus) -> int:
    return parse_time(status.update_time) if status.update_time else 0


def _notice(status: BudgetStatus, reached: Reached) -> Notice:
    what = {
        BudgetAction.NOTIFY: "",
        BudgetAction.STOP_PREWARM: ": no replica is kept without requests",
        BudgetAction.DENY_WAKE: ": sleeping endpoints are not woken",
        BudgetAction.FALLBACK: ": requests are served by fallbacks, or refused",
        BudgetAction.BLOCK: ": requests are refused",
    }[reached.action]
    denies = reached.action.includes(BudgetAction.DENY_WAKE)
    reason = "BudgetExhausted" if denies else "BudgetThreshold"
    return Notice("Warning" if denies else "Normal", reason, f"{reached.percent} % are reached{what}. {status.message}")
