"""Send a small request to replicas that serve and that nobody asks anything, where an endpoint's spec says so.

They go from here to the replica and not through an activator, so there is nothing by which they could count as demand,
put the idle deadline off, or be billed: there is no record of them.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import aiohttp

from zerotide.controller.failures import PingFailed
from zerotide.controller.rounds import in_turn, rounds
from zerotide.scaling.pinging import Pinged, due

log = logging.getLogger(__name__)

EVERY = 2.0
"""Seconds between two looks at whose turn it is."""
PATIENCE = 10.0
"""Seconds that a replica has to answer."""
MOST = 64 << 10
"""Bytes of an answer that are read."""


@dataclass(frozen=True, slots=True)
class Replica:
    """One that may be pinged: its uid, where and with what, how often, and when its endpoint was last asked anything.

    `quiet_us` is None while something is held or in flight, or nobody knows.
    """

    uid: str
    url: str
    body: str
    interval_us: int
    quiet_us: int | None


class Pings:
    """When each replica was pinged last; `serving` returns those that may be, `on_end` is told how each ping ended."""

    def __init__(
        self,
        serving: Callable[[], Iterable[Replica]],
        on_end: Callable[[bool], None],
        now_us: Callable[[], int] = lambda: time.monotonic_ns() // 1000,
        *,
        every: float = EVERY,
    ) -> None:
        self._serving, self._on_end, self._now_us, self._every = serving, on_end, now_us, every
        self._known: Mapping[str, Pinged] = {}

    async def run(self) -> None:
        """Look for ever."""
        await rounds(self.round, every=self._every, patience=PATIENCE)

    async def round(self, session: aiohttp.ClientSession) -> None:
        """Ping those whose turn it is, and remember who is there."""
        now_us, known, turn = self._now_us(), dict[str, Pinged](), list[Replica]()
        for replica in self._serving():
            before = self._known.get(replica.uid, Pinged(now_us))
            if due(before, replica.quiet_us, replica.interval_us, now_us):
                turn.append(replica)
                before = Pinged(now_us, before.failed)
            known[replica.uid] = before
        for replica, error in await in_turn(turn, lambda replica: self._ping(session, replica)):
            if error and not known[replica.uid].failed:
                log.warning("ping failed", extra={"pod": replica.uid, "error": error})
            known[replica.uid] = Pinged(now_us, bool(error))
            self._on_end(not error)
        self._known = known

    async def _ping(self, session: aiohttp.ClientSession, replica: Replica) -> str:
        try:
            await _send(session, replica)
        except PingFailed as error:
            return str(error)
        return ""


async def _send(session: aiohttp.ClientSession, replica: Replica) -> None:
    method = "POST" if replica.body else "GET"
    headers = {"Content-Type": "application/json"} if replica.body else {}
    data = replica.body.encode() if replica.body else None
    try:
        async with session.request(method, replica.url, data=data, headers=headers, allow_redirects=False) as answer:
            said = await answer.content.read(MOST)
            if not 200 <= answer.status < 300:
                raise PingFailed(f"{replica.url}: {answer.status}: {said[:200].decode(errors='replace')}")
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        raise PingFailed(f"{replica.url}: {type(error).__name__}: {error}") from error
