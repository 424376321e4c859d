"""Seal beside everything else: its own connection, so that neither usage nor reports wait for it.

Where several exporters share a ledger, the one that holds a Lease seals. The Lease only keeps the others from doing the
same work: what keeps them from harm is the ledger, which takes seals of the newest epoch alone.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from zerotide.exporter.errors import SealRefused
from zerotide.exporter.pricewatch import PriceWatch
from zerotide.exporter.sealer import seal_due
from zerotide.exporter.store import Store
from zerotide.exporter.threads import Threaded
from zerotide.kube import Elector
from zerotide.kube.clock import Clock

log = logging.getLogger(__name__)

MakeElector = Callable[[Callable[[], None]], Elector]
"""Makes what seeks the Lease, given what is to be called when it is lost."""


class SealTask:
    """Seal what ended `grace_us` ago, whenever there is something; look every `interval_s`.

    `elect` is None where nobody else has the ledger.
    """

    def __init__(
        self,
        store: Threaded[Store],
        prices: PriceWatch,
        clock: Clock,
        *,
        grace_us: int,
        interval_s: float,
        elect: MakeElector | None = None,
    ) -> None:
        self._store, self._prices, self._clock, self._elect = store, prices, clock, elect
        self._grace_us, self._interval_s = grace_us, interval_s
        self.until_us = 0
        """Up to where everything was sealed when it was looked at last; 0 where nothing was."""
        self._leading: Callable[[], bool] = lambda: False

    def leads(self) -> bool:
        """Tell whether this exporter seals now, and so is the one that does what one of several does."""
        return self._leading()

    async def run(self) -> None:
        """Seal until cancelled. Raises StoreError other than StoreUnavailable."""
        # Sealed by the price file, a bucket would have to be corrected by the book.
        await self._prices.reflector.synced.wait()
        if self._elect is None:
            await self._lead(lambda: True, asyncio.Event())
        while self._elect is not None:
            await self._seek(self._elect)

    async def _seek(self, elect: MakeElector) -> None:
        """Wait for the Lease, seal while it is held, and return when another process has taken it."""
        lost = asyncio.Event()
        elector = elect(lost.set)
        seeking = asyncio.create_task(elector.run())
        try:
            await elector.elected.wait()
            await self._lead(lambda: elector.leading, lost)
        finally:
            seeking.cancel()
            with suppress(asyncio.CancelledError):
                await seeking
            await elector.release()

    async def _lead(self, leading: Callable[[], bool], lost: asyncio.Event) -> None:
        epoch = await self._store.insist(_claim)
        self._leading = leading
        while not lost.is_set():
            try:
                while leading() and await self._store.insist(partial(self._seal, epoch=epoch)) > 0:
                    pass
            except SealRefused as error:
                # Who has claimed it does not lead, or took the Lease: then that is seen, too, and soon.
                log.warning("sealing was claimed by another exporter", extra={"error": str(error)})
                if leading():
                    epoch = await self._store.insist(_claim)
            with suppress(TimeoutError):
                async with asyncio.timeout(self._interval_s):
                    await lost.wait()

    def _seal(self, store: Store, *, epoch: int) -> int:
        number = seal_due(store, self._prices.current(), epoch, self._clock.now_us(), self._grace_us)
        head = store.seals.head()
        if number and head:
            log.info("sealed", extra={"seal": head.number, "hash": head.hash, "buckets": number})
        self.until_us = head.end_us if head else 0
        return number


def _claim(store: Store) -> int:
    return store.seals.claim()
