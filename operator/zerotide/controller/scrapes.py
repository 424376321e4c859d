"""Ask engines how many requests wait within them and how many tokens are in flight, where an endpoint's spec says so.

One loop asks all of them, a few at a time. A replica that does not answer, or not with such a metric, is left out:
what the others say counts, and so does everything else that is known of the load.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import aiohttp

from zerotide.controller.failures import EngineSilent
from zerotide.controller.rounds import AT_ONCE, in_turn, rounds
from zerotide.reconcile.engines.said import Said, said

log = logging.getLogger(__name__)

EVERY = 5.0
"""Seconds between two questions."""
STALE = 15.0
"""Seconds for which an answer counts."""
PATIENCE = 2.0
"""Seconds that an engine has to answer."""
LONGEST = 5.0
"""Seconds that a round takes at most: whoever is not asked by then is asked first in the next one."""
MOST = 4 << 20
"""Bytes of a page that are read; a page that is longer is none."""
NONE = Said(0, 0)


@dataclass(frozen=True, slots=True)
class Engine:
    """One replica that is to be asked: its endpoint's key, its own uid, and where."""

    key: str
    uid: str
    url: str


class Scrapes:
    """What engines said last; `asked` returns whom to ask, `on_change` is called with each key whose sum changed."""

    def __init__(
        self,
        asked: Callable[[], Iterable[Engine]],
        on_change: Callable[[str], None],
        *,
        every: float = EVERY,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._asked, self._on_change, self._every, self._clock = asked, on_change, every, clock
        self._said: dict[str, dict[str, tuple[float, Said]]] = {}
        self._sums: dict[str, Said] = {}
        self._tried: dict[str, tuple[bool, float]] = {}
        """Of each engine whether it was silent when it was asked last, and when that was."""

    def said(self, key: str) -> Said:
        """Return the sums over the engines of an endpoint, as far as they told lately."""
        since = self._clock() - STALE
        fresh = [one for at, one in self._said.get(key, {}).values() if at >= since]
        return Said(sum(one.waiting or 0 for one in fresh), sum(one.tokens or 0 for one in fresh))

    def forget(self, key: str) -> None:
        """Forget an endpoint that is gone."""
        self._said.pop(key, None)
        self._sums.pop(key, None)

    async def run(self) -> None:
        """Ask for ever."""
        await rounds(self.round, every=self._every, patience=PATIENCE)

    async def round(self, session: aiohttp.ClientSession) -> None:
        """Ask everybody once, those that were silent last of all, and tell whose sum changed."""
        engines = sorted(self._asked(), key=lambda engine: self._tried.get(engine.uid, (False, 0.0)))
        reading = asyncio.Semaphore(AT_ONCE)
        answers = await in_turn(engines, lambda engine: self._ask(session, engine, reading), within=LONGEST)
        said = {engine.uid: answer for engine, answer in answers}
        told: dict[str, dict[str, tuple[float, Said]]] = {}
        tried: dict[str, tuple[bool, float]] = {}
        for engine in engines:
            answer = said.get(engine.uid)
            if engine.uid in said:
                tried[engine.uid] = (answer is None, self._clock())
            elif engine.uid in self._tried:
                tried[engine.uid] = self._tried[engine.uid]
            before = self._said.get(engine.key, {}).get(engine.uid)
            # Who is silent now may be busy: what it said last counts a little longer.
            now = (self._clock(), answer) if answer is not None else before
            if now is not None:
                told.setdefault(engine.key, {})[engine.uid] = now
        self._tried = tried
        self._said = told
        sums = {key: self.said(key) for key in told}
        changed = [key for key in sums.keys() | self._sums.keys() if sums.get(key, NONE) != self._sums.get(key, NONE)]
        self._sums = sums
        for key in changed:
            self._on_change(key)

    async def _ask(self, session: aiohttp.ClientSession, engine: Engine, reading: asyncio.Semaphore) -> Said | None:
        try:
            return await _read(session, engine.url, reading)
        except EngineSilent as error:
            log.debug("engine not asked", extra={"key": engine.key, "error": str(error)})
            return None


async def _read(session: aiohttp.ClientSession, url: str, reading: asyncio.Semaphore) -> Said:
    """Return what one page says; pages may be long, so a few are read at once, however many are waited for."""
    try:
        async with session.get(url, allow_redirects=False) as answer, reading:
            page = await answer.content.read(MOST + 1) if answer.status == 200 else b""
            while 0 < len(page) <= MOST and (more := await answer.content.read(MOST + 1 - len(page))):
                page += more
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        raise EngineSilent(f"{url}: {type(error).__name__}: {error}") from error
    found = said(page.decode(errors="replace")) if len(page) <= MOST else Said()
    if found == Said():
        raise EngineSilent(f"{url}: no metric says how many requests wait, or how many tokens are in flight")
    return found
