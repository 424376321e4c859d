"""Ask replicas for a token before they count as ready, where the spec says so, and tell how it went.

Such a pod has a readiness gate: the kubelet calls it ready once its own probe passes and a condition of its status
holds, and that is written here, where everybody can read it and a restart finds it. It is about one container: one
that starts anew is asked anew.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple

import aiohttp

from zerotide.api.generation import Question, generated
from zerotide.api.names import CONDITION_TOKEN
from zerotide.api.scalars import format_time
from zerotide.controller.failures import NotLeading, NoToken
from zerotide.kube import KubeError, Object
from zerotide.reconcile.pods import Proof

log = logging.getLogger(__name__)

EVERY = 1.0
"""Seconds between two looks where nothing calls for one."""
PATIENCE = 60.0
"""Seconds that an engine has for a token: the first one may compile what later ones use."""
LONGEST_PAUSE = 10.0
"""Seconds between two questions at most; the first pause is one, each next one twice as long."""
MOST = 64 << 10
"""Bytes of an answer that are read."""
_SAID = 300


@dataclass(frozen=True, slots=True)
class Replica:
    """One that is ready only once it generated a token; `base` is where it listens, without a path."""

    namespace: str
    name: str
    uid: str
    proof: Proof
    base: str
    question: Question


class _Turn(NamedTuple):
    """How often the container of a replica was asked in vain, and when it is asked again."""

    container: str
    failures: int
    at: float


class Proofs:
    """Who is being asked; `replicas` returns those that may have to be, `write` writes a condition of one."""

    def __init__(
        self,
        replicas: Callable[[], Iterable[Replica]],
        write: Callable[[Replica, Object], Awaitable[None]],
        now_us: Callable[[], int],
        *,
        patience: float = PATIENCE,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._replicas, self._write, self._now_us = replicas, write, now_us
        self._patience, self._clock = patience, clock
        self._turns: dict[str, _Turn] = {}
        self._asking: dict[str, asyncio.Task[None]] = {}
        self._news = asyncio.Event()

    def look(self) -> None:
        """Look soon: something changed."""
        self._news.set()

    async def run(self) -> None:
        """Look for ever."""
        async with self.session() as session:
            try:
                while True:
                    self.round(session)
                    with suppress(TimeoutError):
                        async with asyncio.timeout(EVERY):
                            await self._news.wait()
                    self._news.clear()
            finally:
                await self._end()

    def session(self) -> aiohttp.ClientSession:
        """Return what replicas are asked with, each over a connection of its own."""
        return aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=self._patience),
            connector=aiohttp.TCPConnector(limit=0, force_close=True),
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
        )

    def round(self, session: aiohttp.ClientSession) -> list[asyncio.Task[None]]:
        """Begin to ask those whose turn it is, and return who is being asked."""
        replicas = {replica.uid: replica for replica in self._replicas()}
        for uid in self._asking.keys() - replicas.keys():
            self._asking[uid].cancel()
        self._turns = {uid: turn for uid, turn in self._turns.items() if uid in replicas}
        for uid, replica in replicas.items():
            turn = self._turns.get(uid)
            known = turn is not None and turn.container == replica.proof.container and self._clock() < turn.at
            if uid in self._asking or known or (replica.proof.holds and replica.proof.fresh):
                continue
            if replica.proof.holds or (replica.proof.due and replica.base):
                self._begin(session, replica)
        return list(self._asking.values())

    def _begin(self, session: aiohttp.ClientSession, replica: Replica) -> None:
        task = asyncio.get_running_loop().create_task(self._settle(session, replica))
        self._asking[replica.uid] = task

        def over(_: asyncio.Task[None]) -> None:
            del self._asking[replica.uid]

        task.add_done_callback(over)

    async def _settle(self, session: aiohttp.ClientSession, replica: Replica) -> None:
        """Ask a replica, or take back what was said of a container that is gone, and write it."""
        container = replica.proof.container
        before = self._turns.get(replica.uid)
        failures = before.failures if before is not None and before.container == container else 0
        try:
            if replica.proof.holds:
                holds, reason, message = False, "ContainerStarted", f"container {container} has still to be asked"
            else:
                holds, reason, message = await self._ask(session, replica)
            if holds != replica.proof.holds or message != replica.proof.message:
                await self._write(replica, self._condition(replica.proof, holds, reason, message))
        except (KubeError, NotLeading) as error:
            log.warning("readiness not written", extra={"pod": replica.name, "error": str(error)})
            holds = False
        pause = min(float(2**failures), LONGEST_PAUSE)
        self._turns[replica.uid] = _Turn(container, 0 if holds else failures + 1, self._clock() + pause)

    async def _ask(self, session: aiohttp.ClientSession, replica: Replica) -> tuple[bool, str, str]:
        container = replica.proof.container
        try:
            await _send(session, replica)
        except NoToken as error:
            log.info("no token", extra={"pod": replica.name, "error": str(error)})
            return False, "NoToken", f"container {container} generated no token: {error}"
        return True, "TokenGenerated", f"container {container} generated a token"

    def _condition(self, before: Proof, holds: bool, reason: str, message: str) -> Object:
        condition = {"type": CONDITION_TOKEN, "status": str(holds), "reason": reason, "message": message}
        if holds != before.holds or not before.message:
            condition["lastTransitionTime"] = format_time(self._now_us())
        return condition

    async def _end(self) -> None:
        asking = list(self._asking.values())
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)


async def _send(session: aiohttp.ClientSession, replica: Replica) -> None:
    path, body = replica.question
    headers = {"Content-Type": "application/json"}
    try:
        async with session.post(
            f"{replica.base}{path}", data=body.encode(), headers=headers, allow_redirects=False
        ) as answer:
            said = await answer.content.read(MOST)
            while len(said) < MOST and (more := await answer.content.read(MOST - len(said))):
                said += more
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        raise NoToken(f"POST {path}: {type(error).__name__} {error}".rstrip()) from error
    if not 200 <= answer.status < 300 or not generated(said):
        text = " ".join(said[:_SAID].decode(errors="replace").split())
        raise NoToken(f"POST {path}: {answer.status}: {text}")
