"""Keep this process's slices: ask the exporter for them, once for all who wait, and give back what nobody takes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from zerotide.activator.admission.naming import Name
from zerotide.activator.failures import LedgerSilent
from zerotide.activator.quota.slices import TOKENS, Slice, Use
from zerotide.activator.usage.lines import NOWHERE, Mark
from zerotide.api.errors import ErrorCode, Rejection
from zerotide.api.quota import MOST_ASKS, MOST_NEEDS, TTL_S, UNITS, Ask, Grant, Grants, Wish

log = logging.getLogger(__name__)

TICK = 1.0
"""Seconds between two asks where nobody waits, so that what is idle goes back."""
GOOD_S = 0.8 * TTL_S
"""Seconds for which a slice may be taken from that is not renewed: less than the exporter thinks."""
AHEAD = 4
"""How many times as much as the largest request is wished to spare."""


class Waiter(NamedTuple):
    """Who waits for a reservation."""

    use: Use
    done: asyncio.Future[int]


class Log(NamedTuple):
    """What of the usage log matters here."""

    mark: Callable[[], Mark]
    """Write down what was recorded, and return the place after it."""
    inherited: Callable[[], bool]
    """Tell whether the ledger has all that earlier processes left behind."""
    found: bool
    """Whether an earlier process left anything behind."""
    closed: Callable[[], bool]
    """Tell whether it takes no more, so that what is used would not come to the ledger."""


class Process(NamedTuple):
    """Who asks: one of a pod's processes, told apart by its birth from those that died before it."""

    pod: str
    number: str
    born_us: int


class Office:
    """The slices of one process; `post` asks the exporter and raises LedgerSilent."""

    def __init__(
        self,
        me: Process,
        usage: Log,
        post: Callable[[Ask], Awaitable[Grants]],
        now: Callable[[], float],
        now_us: Callable[[], int],
    ) -> None:
        self._me, self._usage, self._post, self._now, self._now_us = me, usage, post, now, now_us
        self._slices: dict[Name, Slice] = {}
        self._waiting: dict[Name, list[Waiter]] = {}
        self._wanted = asyncio.Event()
        self._number = 0
        self._told = not usage.found
        """Whether the exporter knows that all usage of earlier processes is in the ledger."""

    @property
    def slices(self) -> dict[Name, Slice]:
        """Return the slices, by budget."""
        return self._slices

    def take(self, name: Name, use: Use) -> int | None:
        """Reserve what is at hand, unless somebody waits for it, and return as how much; None where it is not."""
        found = self._slices.get(name)
        return found.take(use, self._now()) if found is not None and name not in self._waiting else None

    async def borrow(self, name: Name, use: Use) -> int:
        """Reserve what may have to be asked for, and return as how much.

        Raises budget_exhausted or ledger_unavailable.
        """
        if self._usage.closed():
            raise _silent(name)
        amount = self.take(name, use)
        if amount is not None:
            return amount
        waiter = Waiter(use, asyncio.get_running_loop().create_future())
        self._slices.setdefault(name, Slice())
        self._waiting.setdefault(name, []).append(waiter)
        self._wanted.set()
        try:
            return await waiter.done
        except asyncio.CancelledError:
            if waiter.done.done() and not waiter.done.cancelled() and waiter.done.exception() is None:
                self._slices[name].settle(waiter.done.result(), Use(0, 0), Mark(0, 0))
            raise

    def settle(self, name: Name, reserved: int, use: Use) -> None:
        """End a reservation, of which so much was used that the usage log has."""
        self._slices[name].settle(reserved, use, self._usage.mark() if any(use) else Mark(0, 0))

    def shipped(self, mark: Mark) -> None:
        """The ledger has everything of the log before a mark."""
        lost = [each for each in self._slices.values() if each.nowhere]
        if lost and (place := self._usage.mark()) != NOWHERE:
            for each in lost:
                each.place(place)
        for each in self._slices.values():
            each.shipped(mark)

    async def run(self) -> None:
        """Ask for ever: at once where somebody waits, else now and then while anything is reserved."""
        while True:
            try:
                async with asyncio.timeout(TICK if self._slices or not self._told else None):
                    await self._wanted.wait()
            except TimeoutError:
                pass
            self._wanted.clear()
            await self.ask()

    async def close(self) -> None:
        """Give everything back that is not used."""
        for waiters in self._waiting.values():
            for waiter in waiters:
                waiter.done.cancel()
        self._waiting.clear()
        for each in self._slices.values():
            each.taken = 0
        await self.ask()

    async def ask(self) -> None:
        """Ask once, for everybody who waits now."""
        names = sorted(self._slices, key=lambda name: name not in self._waiting)[:MOST_ASKS]
        asked = {name: tuple(self._waiting.get(name, ())[:MOST_NEEDS]) for name in names}
        wishes = tuple(self._wish(name, waiters) for name, waiters in asked.items())
        inherited = not self._told and self._usage.inherited()
        if not (wishes or inherited):
            return
        self._number = max(self._number + 1, self._now_us())
        ask = Ask(
            pod=self._me.pod,
            process=self._me.number,
            born_us=self._me.born_us,
            number=self._number,
            inherited=inherited,
            wishes=wishes,
        )
        sent = self._now()
        try:
            grants = (await self._post(ask)).grants
            if grants is None or len(grants) != len(wishes):
                raise LedgerSilent("the exporter has answered a later ask before this one")
        except LedgerSilent as error:
            log.warning("nothing can be reserved", extra={"error": str(error)})
            for name, waiters in asked.items():
                self._dismiss(name, waiters)
            return
        self._told = self._told or ask.inherited
        for (name, waiters), grant in zip(asked.items(), grants, strict=True):
            self._deal(name, waiters, grant, sent + GOOD_S)

    def _wish(self, name: Name, waiters: tuple[Waiter, ...]) -> Wish:
        found = self._slices[name]
        tariff = found.tariff or TOKENS
        needs = tuple(waiter.use.cost(tariff) for waiter in waiters)
        # What was taken since it was renewed will be taken again: so much may stay.
        keep, spare = found.ask(max(found.taken, AHEAD * max(needs, default=0)))
        # Of what is limited nothing is known before the first answer.
        wants = () if found.tariff == TOKENS else tuple(waiter.use for waiter in waiters)
        return Wish(namespace=name.namespace, budget=name.name, keep=keep, needs=needs, wants=wants, spare=spare)

    def _deal(self, name: Name, waiters: tuple[Waiter, ...], grant: Grant, good_until: float) -> None:
        """Serve those who waited with what was granted, in their order."""
        found, unknown = self._slices[name], grant.amount is None
        found.renew(grant.amount or 0, found.tariff if unknown else grant.tariff or TOKENS, good_until)
        refused: list[Waiter] = []
        for waiter in waiters:
            if waiter.done.done():
                continue
            amount = found.take(waiter.use, self._now())
            if amount is not None:
                waiter.done.set_result(amount)
            else:
                refused.append(waiter)
        for waiter in refused:
            need = waiter.use.cost(found.tariff or TOKENS)
            waiter.done.set_exception(_silent(name, grant.reason) if unknown else _spent(name, grant, found.free, need))
        self._leave(name, waiters)
        if not (grant.amount or found.kept or name in self._waiting):
            del self._slices[name]

    def _dismiss(self, name: Name, waiters: tuple[Waiter, ...]) -> None:
        """Refuse what the slice in hand has no room for, since more cannot be asked for."""
        found = self._slices[name]
        for waiter in waiters:
            if not waiter.done.done():
                amount = found.take(waiter.use, self._now())
                if amount is not None:
                    waiter.done.set_result(amount)
                else:
                    waiter.done.set_exception(_silent(name))
        self._leave(name, waiters)

    def _leave(self, name: Name, waiters: tuple[Waiter, ...]) -> None:
        """Drop those who wait no more; ask again at once for those who came meanwhile."""
        rest = [waiter for waiter in self._waiting.get(name, ()) if waiter not in waiters]
        if rest:
            self._waiting[name] = rest
            self._wanted.set()
        else:
            self._waiting.pop(name, None)


def _silent(name: Name, reason: str = "") -> Rejection:
    text = f"budget {name.name} of namespace {name.namespace} is never passed, and "
    why = reason or "its ledger cannot be asked now: try again"
    return Rejection(ErrorCode.LEDGER_UNAVAILABLE, text + why)


def _spent(name: Name, grant: Grant, free: int, need: int) -> Rejection:
    until = f"it begins anew at {grant.resets}" if grant.resets else "it never begins anew, only a raise helps"
    left, limit, more = (_shown(amount, grant.currency) for amount in (grant.left + free, grant.limit, need))
    unit = grant.currency or "tokens"
    text = f"budget {name.name} of namespace {name.namespace}: {left} of {limit} {unit} are left"
    return Rejection(ErrorCode.BUDGET_EXHAUSTED, f"{text}, and {more} would have to be reserved; {until}")


def _shown(amount: int, currency: str) -> str:
    """Return an amount as people read it: tokens, or money with two decimals at least."""
    if not currency:
        return str(amount)
    whole, rest = divmod(amount, UNITS)
    digits = f"{rest:09d}".rstrip("0").ljust(2, "0")
    return f"{whole}.{digits}"
