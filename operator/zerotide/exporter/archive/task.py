"""Archive beside everything else: its own connection and thread, since a day is much to read."""

from __future__ import annotations

import asyncio
import logging

from zerotide.exporter.archive.archive import Archive
from zerotide.exporter.errors import ArchiveError
from zerotide.exporter.store import Store
from zerotide.exporter.threads import Threaded
from zerotide.kube.clock import Clock

log = logging.getLogger(__name__)


class ArchiveTask:
    """Write closed days, whenever there are some; look every `interval_s`."""

    def __init__(self, archive: Archive, store: Threaded[Store], clock: Clock, *, interval_s: float) -> None:
        self._archive, self._store, self._clock, self._interval_s = archive, store, clock, interval_s

    async def run(self) -> None:
        """Write until cancelled. Raises StoreError other than StoreUnavailable."""
        while True:
            try:
                while number := await self._store.insist(self._write):
                    log.info("archived", extra={"days": number})
            except ArchiveError as error:
                # Bills are made without it: a full volume must not keep the meter from metering.
                log.error("the archive cannot be written", extra={"error": str(error)})
            await asyncio.sleep(self._interval_s)

    def _write(self, store: Store) -> int:
        return self._archive.write_due(store, self._clock.now_us(), most=1)
