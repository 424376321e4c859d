"""Write closed days of a ledger to its archive, and answer from it.

A day is written in this order: its files, each under another name until it is on the disk; then the manifest, in the
same way. So a death at any point leaves the archive as it was, with files that nobody names, which the next run
removes. A day is read after it was noted up to where the ledger was sealed and how many requests had ended: what comes
in between makes the day due again.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from zerotide.api.usage import Outcome
from zerotide.billing.archives import (
    CHARGES,
    FORMAT,
    REQUESTS,
    SEALS,
    SEGMENTS,
    Kept,
    Manifest,
    current,
    days_of,
    gaps,
    is_due,
    together,
)
from zerotide.billing.ledger import folded
from zerotide.billing.rating import Period
from zerotide.billing.rollups import DAY, Usage, UsageKey
from zerotide.billing.sealing import GENESIS, Seal
from zerotide.exporter.archive import parquet
from zerotide.exporter.archive.disk import Disk, locked
from zerotide.exporter.archive.folder import Folder
from zerotide.exporter.store import Store

OUTCOME = list(parquet.TABLES[REQUESTS].columns).index("outcome")


class Archive:
    """An archive in a folder. One process writes it at a time; any thread may read."""

    def __init__(self, path: Path, disk: Disk | None = None) -> None:
        self.folder = Folder(path, disk)
        self.reading = threading.RLock()
        """Held by whoever reads: files of an earlier revision are not removed from under it."""

    def write_due(self, store: Store, now_us: int, most: int = 31) -> int:
        """Write the days that are closed and not archived as they are, a number of them at most; return how many.

        Raises StoreError and ArchiveError. Does nothing where another process writes the same archive.
        """
        self.folder.make()
        with locked(self.folder.path) as mine:
            if not mine:
                return 0
            kept = self.folder.kept()
            with self.reading:
                self.folder.tidy(kept)
            head = store.seals.head()
            days = self._due(store, kept, head) if head else []
            for day in days[:most]:
                assert head is not None
                kept.append(self._write(store, kept, day, head, now_us))
            with self.reading:
                self.folder.tidy(kept)
        return len(days[:most])

    def usage(self, store: Store, namespace: str, endpoint: str, period: Period) -> dict[UsageKey, Usage]:
        """Return usage within a period from the requests: archived ones where their day is, others from the ledger.

        An archived day counts where it holds as many delivered requests as the ledger's sums, so what came late is
        never missed. Raises StoreError and ArchiveError.
        """
        days = Period(period.start_us // DAY * DAY, -(-period.end_us // DAY) * DAY)
        with self.reading:
            found, counted = current(self.folder.kept()), store.delivered(days)
            whole = [
                each.manifest
                for each in days_of(found, days)
                if each.manifest.delivered == counted.get(each.manifest.day_us, 0) and self.folder.whole(each.manifest)
            ]
            paths = [path for each in whole for path in self.folder.requests(each)]
            archived = parquet.usage(self.folder.path, paths, namespace, endpoint, period)
        # Of a day that lies in the period partly, the file is read and the rest of it left out.
        left = gaps(period, (each.day for each in whole))
        return together([archived, *(store.usage_raw(namespace, endpoint, part) for part in left)])

    def rows(self, manifest: Manifest, table: str) -> list[tuple[Any, ...]]:
        """Return the rows of a table of a day, in order. Raises ArchiveError."""
        file = manifest.file(table)
        return parquet.read(self.folder.path, self.folder.path / file.path) if file else []

    def _due(self, store: Store, kept: list[Kept], head: Seal) -> list[Period]:
        """Return the days to write: first those to which something came late, then new ones, each in order.

        In this order corrections up to the newest day's manifest are accounted for, wherever the last run ended.
        """
        first = store.seals.first_us()
        if first is None:
            return []
        closed = Period(first // DAY * DAY, head.end_us // DAY * DAY)
        found = current(kept)
        since = found[max(found)].manifest.sealed_until_us if found else 0
        corrected = store.seals.corrected(since)
        settled, delivered = store.ended(closed), store.delivered(closed)

        def due(day_us: int) -> bool:
            known = found[day_us].manifest if day_us in found else None
            if known is not None and not self.folder.whole(known):
                return True
            return is_due(known, settled.get(day_us, 0), delivered.get(day_us, 0), corrected.get(day_us))

        late = [day for day in found if due(day)]
        new = [day for day in range(*closed, DAY) if day not in found]
        return [Period(day, day + DAY) for day in (*late, *new)]

    def _write(self, store: Store, kept: list[Kept], day: Period, head: Seal, now_us: int) -> Kept:
        settled = store.ended(day).get(day.start_us, 0)
        self.folder.make_day(day.start_us)
        before = current(kept).get(day.start_us)
        revision = before.manifest.revision + 1 if before else 1

        def written(table: str, rows: Iterable[Sequence[Any]]) -> int:
            part = self.folder.part(self.folder.name(table, day.start_us, revision))
            return parquet.write(self.folder.path, table, rows, part)

        lost, links = 0, store.seals.walk(list, day)

        def counted(rows: Iterable[Sequence[Any]]) -> Iterator[Sequence[Any]]:
            nonlocal lost
            for row in rows:
                lost += row[OUTCOME] == Outcome.LOST
                yield row

        numbers = {
            REQUESTS: store.read_requests(day, lambda rows: written(REQUESTS, counted(rows))),
            SEGMENTS: written(SEGMENTS, segments(store, day, now_us)),
            CHARGES: written(CHARGES, ((link.bucket_us, *row) for link in links for row in link.rows)),
            SEALS: written(SEALS, (link.seal for link in links if link.seal)),
        }
        files = [self.folder.publish(table, day.start_us, revision, rows) for table, rows in numbers.items() if rows]
        manifest = Manifest(
            format=FORMAT,
            number=len(kept) + 1,
            previous=kept[-1].digest if kept else GENESIS,
            day_us=day.start_us,
            revision=revision,
            written_us=now_us,
            sealed_until_us=head.end_us,
            seal_number=head.number,
            seal_hash=head.hash,
            settled=settled,
            delivered=numbers[REQUESTS] - lost,
            files=tuple(files),
        )
        return self.folder.keep(manifest)


def segments(store: Store, day: Period, now_us: int) -> Iterator[tuple[Any, ...]]:
    """Yield the segments of every replica within a day, cut at its ends, so that days add up."""
    for records in store.records("", "", day):
        ledger = folded(records, now_us)
        for life in ledger.lifetimes:
            cluster = next(iter(records.facts[life.pod_uid])).cluster
            device = life.accelerator
            what = (
                *life.identity,
                life.node,
                device.class_name if device else "",
                life.allocation.units,
                device.parts if device else 1,
                life.allocation.cpu_milli,
                life.allocation.memory_bytes,
            )
            for start, end, phase in life.segments:
                low, high = max(start, day.start_us), min(end, day.end_us)
                if low < high:
                    yield (cluster, life.pod_uid, *what, phase.value, low, high)
