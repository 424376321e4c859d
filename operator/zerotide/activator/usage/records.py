"""The usage log of a process and its way to the exporter, from start to end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import aiohttp

from zerotide.activator.usage.backlog import Bounds
from zerotide.activator.usage.journal import Journal
from zerotide.activator.usage.lines import Mark
from zerotide.activator.usage.shipper import Shipper
from zerotide.kube import CredentialsError, TokenFile

log = logging.getLogger(__name__)

PATH = "/internal/usage"
LAST = 5.0
"""Seconds in which the last records are brought to the exporter at the end."""


class Records:
    """A journal, and a shipper where there is an exporter."""

    def __init__(
        self, folder: Path, exporter: str, token_file: Path | None, bounds: Bounds, now_us: Callable[[], int]
    ) -> None:
        self.journal = Journal(folder, bounds=bounds, now_us=now_us)
        self._exporter = exporter
        self._token: Callable[[], str] | None = TokenFile(token_file) if token_file is not None else None
        self._session: aiohttp.ClientSession | None = None
        self.shipped: list[Callable[[Mark], None]] = []
        """Called with the place up to which the exporter has the log, as it moves on."""

    def work(self) -> Iterator[Coroutine[Any, Any, None]]:
        """Yield what has to run for ever."""
        yield self.journal.run()
        if self._exporter:
            self._session = aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar(), trust_env=False)
            yield self._shipper(self._session).run()

    async def close(self) -> None:
        """Ship the last records, as far as the exporter takes them now, and close the log."""
        self.journal.tell_losses(now=True)
        if self._session is not None:
            try:
                async with asyncio.timeout(LAST):
                    await self._shipper(self._session).ship()
            except (aiohttp.ClientError, TimeoutError, CredentialsError, OSError) as error:
                log.warning("usage records stay in the log", extra={"error": str(error)})
            await self._session.close()
        await self.journal.close()

    def _shipper(self, session: aiohttp.ClientSession) -> Shipper:
        shipper = Shipper(self.journal, session, self._exporter + PATH, self._token)
        shipper.shipped = self.shipped
        return shipper
