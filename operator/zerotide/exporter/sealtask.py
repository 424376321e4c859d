"""Seal beside everything else: its own connection, so that neither usage nor reports wait for it."""

from __future__ import annotations

import asyncio
import logging
from functools import partial

from zerotide.exporter.errors import SealRefused
from zerotide.exporter.pricewatch import PriceWatch
from zerotide.exporter.sealer import seal_due
from zerotide.exporter.store import Store
from zerotide.exporter.threads import Threaded
from zerotide.kube.clock import Clock

log = logging.getLogger(__name__)


class SealTask:
    """Seal what ended `grace_us` ago, whenever there is something; look every `interval_s`."""

    def __init__(
        self, store: Threaded[Store], prices: PriceWatch, clock: Clock, *, grace_us: int, interval_s: float
    ) -> None:
        self._store, self._prices, self._clock = store, prices, clock
        self._grace_us, self._interval_s = grace_us, interval_s
        self.until_us = 0
        """Up to where everything is sealed; 0 where nothing is."""

    async def run(self) -> None:
        """Seal until cancelled. Raises StoreError other than StoreUnavailable."""
        # Sealed by the price file, a bucket would have to be corrected by the book.
        await self._prices.reflector.synced.wait()
        epoch = await self._store.insist(_claim)
        while True:
            try:
                while await self._store.insist(partial(self._seal, epoch=epoch)):
                    pass
            except SealRefused as error:
                log.warning("sealing was claimed by another exporter", extra={"error": str(error)})
                epoch = await self._store.insist(_claim)
            await asyncio.sleep(self._interval_s)

    def _seal(self, store: Store, *, epoch: int) -> int:
        number = seal_due(store, self._prices.current(), epoch, self._clock.now_us(), self._grace_us)
        head = store.seals.head()
        if number and head:
            log.info("sealed", extra={"seal": head.number, "hash": head.hash, "buckets": number})
        self.until_us = head.end_us if head else 0
        return number


def _claim(store: Store) -> int:
    return store.seals.claim()
