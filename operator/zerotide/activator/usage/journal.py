"""An append-only log of usage records: a `write` before the replica sees a request, `fdatasync` in groups behind.

The log is a folder of segments, `<number>.ndjson`. What one turn of the loop records is one `write`, since a system
call for each record would be a tenth of a request's cost; whoever must not go on before its record is in the file
waits for that with `then`. So a killed process loses no request that a replica saw, and a lost node what it wrote in
the last 50 ms.

Where the log takes no more, because too much waits for the exporter or the disk takes nothing, it says so (`closed`)
and takes no further intents. Requests that are in it are settled all the same: what cannot be written now is written
later. Of those that are not in it their number is, so that bills can say what they lack.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from zerotide.activator.usage.backlog import Backlog, Bounds, Cause, Waiting, closed_by
from zerotide.activator.usage.lines import NOWHERE, Mark
from zerotide.activator.usage.losses import Losses, Who
from zerotide.api.failures import InvalidRecord
from zerotide.api.usage import AnyRecord, Intent, Outcome, Settlement, decode

log = logging.getLogger(__name__)

SEGMENT_BYTES = 4 * 1024 * 1024
SYNC_PAUSE = 0.02
LOOK = 1.0
"""Seconds between two looks at the age of what waits, and at a disk that took nothing."""
TELL_US = 60_000_000
"""Microseconds between two records of what is lost while the log is full: they are written beyond its bound."""
ROOM = b"\n" * 4096
"""What a disk must take before it is trusted again."""


class Entry:
    """What became of the intents of one turn of the loop."""

    __slots__ = ("written",)

    def __init__(self, written: bool | None = None) -> None:
        self.written = written
        """Whether they are in the log, None as long as that is open."""


LOST = Entry(written=False)
"""An intent that the log did not take."""

_ASIDE = ".refused"


class Journal:
    """The log of this process, and what an earlier one left behind."""

    def __init__(
        self,
        folder: Path,
        segment_bytes: int = SEGMENT_BYTES,
        bounds: Bounds | None = None,
        now_us: Callable[[], int] = lambda: time.time_ns() // 1000,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self._segment_bytes, self._now_us = folder, segment_bytes, now_us
        self.bounds = bounds or Bounds()
        self._backlog = Backlog(self.bounds.age_us)
        self._left = self.segments()
        self._number = max((int(path.stem) for path in self._left), default=0)
        self._file = -1
        self._size = 0
        self._unsynced: list[int] = []
        self._unwritten: list[bytes] = []
        self._settling: list[bytes] = []
        """Of what is unwritten, settlements of intents that are in the log."""
        self._owed: list[bytes] = []
        """Settlements that the disk did not take; no more than there were requests in flight when it ceased to."""
        self._entry = Entry()
        self._after: list[Callable[[], None]] = []
        self._dirty = asyncio.Event()
        self.appended = asyncio.Event()
        """Set when there is something to ship; cleared by the shipper."""
        self.failed = False
        """Whether the disk took nothing at the last try."""
        self.closed: Cause | None = None
        """Why usage is not recorded, or not for certain."""
        self._losses, self._told_us = Losses(), 0
        self._open_next()
        self._settle_abandoned()
        self._judge()

    @property
    def active(self) -> Path:
        """Return the segment that is written to."""
        return self._path(self._number)

    @property
    def active_size(self) -> int:
        """Return the bytes in the active segment."""
        return self._size

    @property
    def inherited(self) -> bool:
        """Tell whether there is still something to ship that an earlier process left behind."""
        self._left = [path for path in self._left if path.exists()]
        return bool(self._left)

    def mark(self) -> Mark:
        """Write what was added, and return the place after it; NOWHERE as long as the disk took not all."""
        self.flush()
        return Mark(self._number, self._size) if not self._owed else NOWHERE

    def segments(self) -> list[Path]:
        """Return all segments, oldest first."""
        return sorted((path for path in self.folder.glob("*.ndjson")), key=lambda path: int(path.stem))

    def aside(self, segment: Path) -> None:
        """Keep a segment that the exporter will never take for people to look at."""
        segment.rename(segment.with_suffix(_ASIDE))

    def refused(self) -> list[Path]:
        """Return the segments that are kept for people to look at, oldest first."""
        return sorted(self.folder.glob(f"*{_ASIDE}"), key=lambda path: int(path.stem))

    def waiting(self) -> Waiting:
        """Return what the exporter has not acknowledged."""
        return self._backlog.waiting(self._now_us())

    # Records

    def append(self, record: AnyRecord) -> None:
        """Write a record before anything else happens."""
        self._unwritten.append(record.encode())
        self.flush()

    def begin(self, line: bytes, *, surely: bool = False) -> Entry:
        """Write an intent, one line of JSON, before the loop goes on to its next turn; return what becomes of it.

        A log that is full takes none. `surely` writes it beyond the bound: of a request that was admitted when there
        was room, and must not be served unrecorded.
        """
        closed = self.closed
        if closed is not None and closed.loses and (closed is Cause.UNWRITABLE or not surely):
            return LOST
        self._add(line)
        return self._entry

    def settle(self, line: bytes, entry: Entry) -> bool:
        """Write a settlement, also where the log is full; False, and nothing done, where its intent is not in it."""
        if entry.written is False:
            return False
        if entry.written:
            if self.failed:
                self._owed.append(line)
                return True
            self._settling.append(line)
        self._add(line)
        return True

    def lost(self, who: Who, at_us: int) -> None:
        """Count an attempt that was served and of which the log has nothing."""
        self._losses.add(who, 1, at_us, at_us)

    def _add(self, line: bytes) -> None:
        if not self._unwritten:
            asyncio.get_running_loop().call_soon(self.flush)
        self._unwritten.append(line)

    def then(self, go_on: Callable[[], None]) -> None:
        """Call once everything that was added is written, at once where it is."""
        if self._unwritten:
            self._after.append(go_on)
        else:
            go_on()

    def flush(self) -> None:
        """Write what was added; a disk that refuses is reported once, and does not stop the traffic."""
        if self._unwritten:
            lines, self._unwritten = self._unwritten, []
            settling, self._settling = self._settling, []
            entry, self._entry = self._entry, Entry()
            entry.written = self._write(lines[0] if len(lines) == 1 else b"".join(lines), len(lines))
            if not entry.written:
                self._owed += settling
        after, self._after = self._after, []
        for go_on in after:
            go_on()

    # The disk

    def _write(self, data: bytes, records: int) -> bool:
        """Write all of it or nothing; tell which."""
        try:
            self._put(data)
        except OSError as error:
            self._fail(error)
            return False
        self.failed = False
        self._size += len(data)
        self._backlog.wrote(len(data), records, self._now_us())
        self._dirty.set()
        self.appended.set()
        if self._size >= self._segment_bytes:
            with contextlib.suppress(OSError):  # no room for one more file: this one grows on
                self.rotate()
        self._judge()
        return True

    def _put(self, data: bytes) -> None:
        """Write at the end of the active segment. Raises OSError, and half a record is then taken out again."""
        try:
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(self._file, rest) :]
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, self._size)
            raise

    def _fail(self, error: OSError) -> None:
        if not self.failed:
            log.error("usage records are being lost", extra={"folder": str(self.folder), "error": str(error)})
        self.failed = True
        # Whatever the exporter has by now makes room.
        self.appended.set()
        self._judge()

    def _judge(self) -> None:
        """Look whether the log takes records; say so where that has changed."""
        waiting = self.waiting()
        cause = closed_by(waiting, self.bounds, writable=not self.failed, before=self.closed)
        if cause is self.closed:
            return
        facts = {"cause": cause, "bytes": waiting.bytes, "records": waiting.records, "age_us": waiting.age_us}
        if cause is None:
            log.warning("usage is recorded again", extra=facts)
        elif cause is Cause.AGE:
            log.error("usage has waited for long for the exporter", extra=facts)
        elif cause is not Cause.UNWRITABLE:  # that was said with its reason
            log.error("usage is not recorded: requests are served unbilled, or refused", extra=facts)
        self.closed = cause

    def acknowledged(self, size: int, records: int) -> None:
        """Count the oldest records as the exporter's."""
        self._backlog.taken(size, records)
        self._judge()

    def rotate(self) -> None:
        """Begin a new segment. Raises OSError."""
        full = self._file
        self._open_next()
        self._unsynced.append(full)
        self._dirty.set()
        self.appended.set()

    def look(self) -> None:
        """Try again to write to a disk that took nothing, and look at the age of what waits."""
        if self.failed or self._owed:
            if self._size:
                # What it holds can go from the disk once the exporter has it.
                with contextlib.suppress(OSError):
                    self.rotate()
            try:
                self._put(ROOM)
                os.ftruncate(self._file, self._size)
            except OSError as error:
                self._fail(error)
                return
            owed, self._owed = self._owed, []
            if owed and not self._write(b"".join(owed), len(owed)):
                self._owed = owed
                return
            self.failed = False
        self._judge()
        self.tell_losses()

    def tell_losses(self, *, now: bool = False) -> None:
        """Write down what was lost: at once where the log is open, now and then where it is full."""
        full = self.closed is not None and self.closed.loses
        if not self._losses or self.failed or (full and not now and self._now_us() < self._told_us + TELL_US):
            return
        self._told_us, told = self._now_us(), self._losses.take()
        if not self._write(b"".join(each.encode() for each in told), len(told)):
            self._losses.give_back(told)

    async def run(self) -> None:
        """Bring what is written to the disk, for ever."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK):
                    await self._dirty.wait()
            self.look()
            if self._dirty.is_set():
                await self.sync()
            await asyncio.sleep(SYNC_PAUSE)

    async def sync(self) -> None:
        """Bring what is recorded so far to the disk."""
        self.flush()
        self._dirty.clear()
        full, self._unsynced = self._unsynced, []
        try:
            await asyncio.get_running_loop().run_in_executor(None, _sync, [*full, self._file], full)
        except OSError as error:
            self._fail(error)

    async def close(self) -> None:
        """Bring everything to the disk and close the log."""
        self.look()
        self.tell_losses(now=True)
        await self.sync()
        os.close(self._file)
        self._file = -1

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:012d}.ndjson"

    def _open_next(self) -> None:
        number = self._number + 1
        self._file = os.open(self._path(number), os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._number, self._size = number, 0

    def _settle_abandoned(self) -> None:
        """Count what an earlier process left behind, and settle what it began and did not end."""
        opened: dict[tuple[str, int], Intent] = {}
        latest = 0
        for path in self._left:
            stamps = []
            for record in read(path):
                if isinstance(record, Intent):
                    opened[record.request_id, record.attempt] = record
                    stamps.append(record.forwarded_us)
                elif isinstance(record, Settlement):
                    opened.pop((record.request_id, record.attempt), None)
                    stamps.append(record.ended_us)
                else:
                    stamps.append(record.to_us)
            latest = max(latest, *stamps, 0)
            self._backlog.wrote(path.stat().st_size, len(stamps), min(stamps, default=self._now_us()))
        for intent in opened.values():
            self.append(
                Settlement(
                    request_id=intent.request_id,
                    attempt=intent.attempt,
                    ended_us=max(latest, intent.forwarded_us),
                    response_bytes=0,
                    outcome=Outcome.ABANDONED,
                    status=0,
                )
            )


def read(path: Path) -> Iterator[AnyRecord]:
    """Yield the records of a segment; a last line that was cut off is no record."""
    for line in path.read_bytes().splitlines(keepends=True):
        if not line.endswith(b"\n"):
            return
        if line == b"\n":
            continue
        try:
            yield decode(line)
        except InvalidRecord as error:
            log.error("a usage record cannot be read", extra={"segment": path.name, "error": str(error)})


def _sync(files: list[int], finished: list[int]) -> None:
    try:
        for file in files:
            os.fdatasync(file)
    finally:
        for file in finished:
            os.close(file)
