"""An append-only log of usage records: a `write` before the replica sees a request, `fdatasync` in groups behind.

The log is a folder of segments, `<number>.ndjson`. What one turn of the loop records is one `write`, since a system
call for each record would be a tenth of a request's cost; whoever must not go on before its record is in the file
waits for that with `then`. So a killed process loses no request that a replica saw, and a lost node what it wrote in
the last 50 ms.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from zerotide.api.failures import InvalidRecord
from zerotide.api.usage import Intent, Outcome, Settlement, decode

log = logging.getLogger(__name__)

SEGMENT_BYTES = 4 * 1024 * 1024
SYNC_PAUSE = 0.02


class Journal:
    """The log of this process, and what an earlier one left behind."""

    def __init__(self, folder: Path, segment_bytes: int = SEGMENT_BYTES) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._segment_bytes = folder, segment_bytes
        self._left = self.segments()
        self._number = max((int(path.stem) for path in self._left), default=0)
        self._file = -1
        self._size = 0
        self._unsynced: list[int] = []
        self._unwritten: list[bytes] = []
        self._after: list[Callable[[], None]] = []
        self._dirty = asyncio.Event()
        self.appended = asyncio.Event()
        """Set when there is something to ship; cleared by the shipper."""
        self.failed = False
        self._open_next()
        self._settle_abandoned()

    @property
    def active(self) -> Path:
        """Return the segment that is written to."""
        return self._path(self._number)

    @property
    def active_size(self) -> int:
        """Return the bytes in the active segment."""
        return self._size

    def segments(self) -> list[Path]:
        """Return all segments, oldest first."""
        return sorted((path for path in self._folder.glob("*.ndjson")), key=lambda path: int(path.stem))

    def append(self, record: Intent | Settlement) -> None:
        """Write a record before anything else happens."""
        self._unwritten.append(record.encode())
        self.flush()

    def add(self, line: bytes) -> None:
        """Write a record, one line of JSON, before the loop goes on to its next turn."""
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
            self._write(lines[0] if len(lines) == 1 else b"".join(lines))
        after, self._after = self._after, []
        for go_on in after:
            go_on()

    def _write(self, data: bytes) -> None:
        try:
            os.write(self._file, data)
            self.failed = False
        except OSError as error:
            if not self.failed:
                log.error("usage records are being lost", extra={"folder": str(self._folder), "error": str(error)})
            self.failed = True
            return
        self._size += len(data)
        self._dirty.set()
        self.appended.set()
        if self._size >= self._segment_bytes:
            self.rotate()

    def rotate(self) -> None:
        """Begin a new segment."""
        self._unsynced.append(self._file)
        self._dirty.set()
        self._open_next()

    async def run(self) -> None:
        """Bring what is written to the disk, for ever."""
        while True:
            await self._dirty.wait()
            await self.sync()
            await asyncio.sleep(SYNC_PAUSE)

    async def sync(self) -> None:
        """Bring what is recorded so far to the disk."""
        self.flush()
        self._dirty.clear()
        full, self._unsynced = self._unsynced, []
        await asyncio.get_running_loop().run_in_executor(None, _sync, [*full, self._file], full)

    async def close(self) -> None:
        """Bring everything to the disk and close the log."""
        await self.sync()
        os.close(self._file)
        self._file = -1

    def _path(self, number: int) -> Path:
        return self._folder / f"{number:012d}.ndjson"

    def _open_next(self) -> None:
        self._number += 1
        self._size = 0
        self._file = os.open(self.active, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def _settle_abandoned(self) -> None:
        """Settle what an earlier process began and did not end."""
        opened: dict[tuple[str, int], Intent] = {}
        latest = 0
        for record in (record for path in self._left for record in read(path)):
            if isinstance(record, Intent):
                opened[record.request_id, record.attempt] = record
                latest = max(latest, record.forwarded_us)
            else:
                opened.pop((record.request_id, record.attempt), None)
                latest = max(latest, record.ended_us)
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


def read(path: Path) -> Iterator[Intent | Settlement]:
    """Yield the records of a segment; a last line that was cut off is no record."""
    for line in path.read_bytes().splitlines(keepends=True):
        if not line.endswith(b"\n"):
            return
        try:
            yield decode(line)
        except InvalidRecord as error:
            log.error("a usage record cannot be read", extra={"segment": path.name, "error": str(error)})


def _sync(files: list[int], finished: list[int]) -> None:
    for file in files:
        os.fdatasync(file)
    for file in finished:
        os.close(file)
