"""The slices of a process, its usage log and the exporter, put together."""

from __future__ import annotations

from collections.abc import Callable

from zerotide.activator.quota.client import QuotaClient
from zerotide.activator.quota.office import Log, Office, Process
from zerotide.activator.usage.records import Records


class Quota:
    """An office whose slices shrink as the usage log is shipped."""

    def __init__(
        self,
        records: Records,
        exporter: QuotaClient,
        me: Process,
        now: Callable[[], float],
        now_us: Callable[[], int],
    ) -> None:
        journal = records.journal
        self._exporter = exporter
        inherited, closed = (lambda: not journal.inherited), (lambda: journal.closed is not None)
        log = Log(journal.mark, inherited, journal.inherited, closed)
        self.office = Office(me, log, exporter.post, now, now_us)
        records.shipped.append(self.office.shipped)

    async def close(self) -> None:
        """Give everything back, after the last usage was shipped."""
        await self.office.close()
        await self._exporter.close()
