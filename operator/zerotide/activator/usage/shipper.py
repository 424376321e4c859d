"""Bring the log to the exporter: oldest first, at least once, a segment deleted when all of it is acknowledged."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from pathlib import Path

import aiohttp

from zerotide.activator.usage.journal import Journal
from zerotide.activator.usage.lines import Mark
from zerotide.kube import CredentialsError

log = logging.getLogger(__name__)

BATCH_BYTES = 256 * 1024
GATHER = 0.25
FIRST_PAUSE, LONGEST_PAUSE = 0.2, 15.0
MOST_ASIDE = 8
"""Segments that are kept for people to look at; older ones are given up."""
_TAKEN = (200, 204)
"""What an exporter answers that has a batch; with 200 it names lines that it keeps and cannot read."""
_REFUSED = (400, 413, 415, 422)


class Shipper:
    """Send batches of whole lines by POST; nothing but an exporter's own answer acknowledges one."""

    def __init__(
        self,
        journal: Journal,
        session: aiohttp.ClientSession,
        url: str,
        token: Callable[[], str] | None,
        rng: random.Random | None = None,
    ) -> None:
        self._journal, self._session, self._url, self._token = journal, session, url, token
        self._rng = rng or random.Random()
        self._path: Path | None = None
        self._offset = 0
        self.shipped: list[Callable[[Mark], None]] = []
        """Called with the place up to which the exporter has the log, as it moves on."""

    async def run(self) -> None:
        """Ship for ever; wait longer and longer while the exporter does not answer."""
        pause = FIRST_PAUSE
        while True:
            try:
                await self.ship()
                pause = FIRST_PAUSE
            except (aiohttp.ClientError, TimeoutError, CredentialsError, OSError) as error:
                log.warning("usage records wait for the exporter", extra={"url": self._url, "error": str(error)})
                await asyncio.sleep(pause * self._rng.uniform(0.5, 1.0))
                pause = min(pause * 2, LONGEST_PAUSE)
                continue
            await self._journal.appended.wait()
            await asyncio.sleep(GATHER)

    async def ship(self) -> None:
        """Ship everything that is in the log now.

        Raises aiohttp.ClientError, TimeoutError or CredentialsError where the exporter cannot take it.
        """
        self._journal.appended.clear()
        for path in self._journal.segments():
            if path != self._path:
                self._path, self._offset = path, 0
            while batch := _lines(path, self._offset):
                if not await self._post(batch):
                    self._set_aside(path)
                    break
                self._offset += len(batch)
                self._journal.acknowledged(len(batch), batch.count(b"\n"))
                self._tell(Mark(int(path.stem), self._offset))
            if path != self._journal.active:
                path.unlink(missing_ok=True)
                # What was written up to the end of a segment is marked as the beginning of the next.
                self._tell(Mark(int(path.stem) + 1, 0))

    def _tell(self, mark: Mark) -> None:
        for each in self.shipped:
            each(mark)

    async def _post(self, batch: bytes) -> bool:
        headers = {"Content-Type": "application/x-ndjson"}
        if self._token is not None:
            headers["Authorization"] = f"Bearer {self._token()}"
        timeout = aiohttp.ClientTimeout(total=30, sock_connect=5)
        async with self._session.post(
            self._url, data=batch, headers=headers, timeout=timeout, allow_redirects=False
        ) as response:
            if response.status in _REFUSED:
                reason = (await response.text())[:500]
                log.error("the exporter refuses usage records", extra={"status": response.status, "error": reason})
                return False
            response.raise_for_status()
            if response.status not in _TAKEN:
                # A proxy's redirect, say: to follow it would ask for a page, and take that for the exporter's word.
                raise aiohttp.ClientResponseError(
                    response.request_info, (), status=response.status, message="this is no exporter's answer"
                )
            return True

    def _set_aside(self, path: Path) -> None:
        """Keep a segment that the exporter will never take for people to look at, and go on with the next."""
        if path == self._journal.active:
            self._journal.rotate()
        rest = path.read_bytes()[self._offset :]
        self._journal.aside(path)
        self._journal.acknowledged(len(rest), rest.count(b"\n"))
        self._path, self._offset = None, 0
        for old in self._journal.refused()[:-MOST_ASIDE]:
            log.error("refused usage records are given up, since there are too many", extra={"segment": old.name})
            old.unlink(missing_ok=True)


def _lines(path: Path, offset: int) -> bytes:
    """Return whole lines from an offset on, one at least if there is one."""
    with path.open("rb") as file:
        file.seek(offset)
        data = file.read(BATCH_BYTES)
        while data and b"\n" not in data:
            more = file.read(BATCH_BYTES)
            if not more:
                return b""
            data += more
    return data[: data.rfind(b"\n") + 1]
