"""Deliveries that wait for the disk together are written together: one transaction for all that came meanwhile.

A delivery is acknowledged once the transaction that holds it is on the disk, as if it had one of its own. While one is
written, those that come wait, and all of them are the next. So the more come, the more share a flush, and one that
comes alone waits for nothing.

A record that the ledger can never hold is kept as a refused line, for a person to look at, and acknowledged: to be
sent it again and again would keep out whatever comes behind it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import NamedTuple

from zerotide.api.usage import AnyRecord
from zerotide.exporter.errors import RecordUnfit, StoreError, StoreUnavailable
from zerotide.exporter.store import Refused, Store
from zerotide.exporter.threads import Threaded
from zerotide.kube.clock import Clock

MOST = 5000
"""Records of one transaction: others that want to write wait for it."""

Records = Sequence[AnyRecord]


class Unfit(NamedTuple):
    """A record that was kept as a refused line: its place in its delivery, and why."""

    place: int
    error: str


class _Waiting(NamedTuple):
    records: Records
    done: asyncio.Future[list[Unfit]]


class GroupCommit:
    """Write records of many deliveries, those that come at about the same time in one transaction."""

    def __init__(self, writer: Threaded[Store], clock: Clock) -> None:
        self._writer, self._clock = writer, clock
        self._waiting: list[_Waiting] = []
        self._flushing: asyncio.Task[None] | None = None

    async def add(self, records: Records) -> list[Unfit]:
        """Return once the records are durable, with those that were set aside.

        Raises StoreError: then none of them is, as far as is known.
        """
        done: asyncio.Future[list[Unfit]] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(records, done))
        if self._flushing is None:
            self._flushing = asyncio.create_task(self._flush())
        return await done

    async def _flush(self) -> None:
        try:
            while self._waiting:
                group = self._next()
                try:
                    await self._write(group)
                except Exception as error:
                    _end(group, error)
                else:
                    _end(group, None)
        finally:
            left, self._waiting, self._flushing = self._waiting, [], None
            _end(left, StoreUnavailable("the exporter is shutting down"))

    def _next(self) -> list[_Waiting]:
        """Take what waits, the first in any case and then no more than is allowed."""
        number, size = 0, 0
        for each in self._waiting:
            size += len(each.records)
            if number and size > MOST:
                break
            number += 1
        group, self._waiting = self._waiting[:number], self._waiting[number:]
        return group

    async def _write(self, group: Sequence[_Waiting]) -> None:
        try:
            await self._add([record for each in group for record in each.records])
        except StoreUnavailable:
            raise
        except StoreError as failure:
            if len(group) == 1 and not isinstance(failure, RecordUnfit):
                raise
            # A record that the ledger cannot hold must not keep out those that came beside it.
            for each in group:
                try:
                    _end([each], None, await self._apart(each.records, 0))
                except StoreError as error:
                    _end([each], error)

    async def _apart(self, records: Records, place: int) -> list[Unfit]:
        """Record what the ledger can hold of a delivery, and set the rest aside; `place` is that of the first."""
        try:
            await self._add(records)
        except RecordUnfit as error:
            if len(records) > 1:
                half = len(records) // 2
                first = await self._apart(records[:half], place)
                return first + await self._apart(records[half:], place + half)
            await self._add((), [Refused(records[0].encode(), str(error))])
            return [Unfit(place, str(error))]
        return []

    async def _add(self, records: Records, refused: Sequence[Refused] = ()) -> None:
        now_us = self._clock.now_us()
        await self._writer.run(lambda store: store.add_usage(records, refused, now_us))


def _end(group: Sequence[_Waiting], error: Exception | None, unfit: Sequence[Unfit] = ()) -> None:
    """Tell those who still wait how it ended."""
    for each in group:
        if each.done.done():
            continue
        if error is None:
            each.done.set_result(list(unfit))
        else:
            each.done.set_exception(error)
