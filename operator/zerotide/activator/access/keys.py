"""The keys of one source: read when they are needed, kept while they cannot be read, never read twice at a time.

Nothing here runs by itself: who asks for keys starts the reading that is due, so an endpoint that nobody calls costs
its issuer nothing.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable

from zerotide.activator.access.keyset import KeySet, read_keys
from zerotide.activator.access.trust import KeysConfigMap, Source
from zerotide.activator.failures import KeysMissing, KeysUnavailable

log = logging.getLogger(__name__)

Load = Callable[[Source], Awaitable[bytes]]

PATIENCE = 5.0
"""Seconds for which a request waits for keys."""
REFRESH = {True: 60.0, False: 300.0}
"""Seconds after which keys in use are read again: those of a ConfigMap, and others."""
OVERDUE = 60.0
"""Seconds beyond these after which requests wait for the reading instead of believing what was read last."""
GAP = 10.0
"""Seconds between readings that tokens with unknown keys can bring about."""
FIRST_RETRY, LAST_RETRY = 1.0, 30.0
LONGEST_KEPT = 86_400.0
"""Seconds for which keys are believed that can no longer be read: an issuer may have withdrawn one meanwhile."""


class Keys:
    """What is known of the keys of one source; times in seconds of the monotonic clock."""

    def __init__(self, source: Source, load: Load, now: Callable[[], float], told: Callable[[str], None]) -> None:
        """`told` hears how each reading went: `loaded` or `failed`."""
        self.source = source
        self._load, self._now, self._told = load, now, told
        self._set: KeySet | None = None
        self._loaded = self._tried = -math.inf
        self._failures = 0
        self._loading: asyncio.Task[None] | None = None

    def current(self) -> KeySet | None:
        """Return the keys, None where none are known; start to read them again where that is due."""
        now = self._now()
        if self._loading is None and now - self._tried >= self._pause():
            self._begin()
        return self._set if now - self._loaded < LONGEST_KEPT else None

    def overdue(self) -> bool:
        """Tell whether the keys are old because nobody asked for them, and are being read right now.

        Who waits for that does not believe in a key that was withdrawn long ago.
        """
        old = self._now() - self._loaded > self._refresh() + OVERDUE
        return old and self._loading is not None and not self._failures

    def look_again(self) -> bool:
        """Look for keys that are new, unless that was done a moment ago; tell whether any are on their way."""
        pause = GAP if not self._failures else self._pause()
        if self._loading is None and self._now() - self._tried >= pause:
            self._begin()
        return self._loading is not None

    async def ready(self) -> None:
        """Return when no keys are on their way any more, or after a while."""
        if self._loading is not None:
            await asyncio.wait((self._loading,), timeout=PATIENCE)

    def close(self) -> None:
        """Read no more."""
        if self._loading is not None:
            self._loading.cancel()

    def _pause(self) -> float:
        if self._failures:
            return float(min(FIRST_RETRY * 2 ** min(self._failures - 1, 10), LAST_RETRY))
        return self._refresh()

    def _refresh(self) -> float:
        return REFRESH[isinstance(self.source, KeysConfigMap)]

    def _begin(self) -> None:
        self._tried = self._now()
        self._loading = asyncio.get_running_loop().create_task(self._read())
        self._loading.add_done_callback(self._done)

    def _done(self, _: asyncio.Task[None]) -> None:
        self._loading = None

    async def _read(self) -> None:
        try:
            text = await self._load(self.source)
            if self._set is None or self._set.text != text:
                self._set = read_keys(text)
        except Exception as error:
            self._failed(error)
            return
        self._loaded, self._failures = self._now(), 0
        self._told("loaded")

    def _failed(self, error: Exception) -> None:
        self._failures += 1
        self._told("failed")
        if isinstance(error, KeysMissing):
            self._set = None
        expected = isinstance(error, KeysUnavailable)
        log.warning(
            "keys cannot be had",
            extra={"source": str(self.source), "error": str(error), "kept": self._set is not None},
            exc_info=None if expected else error,
        )
