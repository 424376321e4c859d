"""At most one process holds the lease, whatever the clocks say, and a slow one does not lose it for being slow."""

from __future__ import annotations

import asyncio
import copy
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerotide.kube import AlreadyExists, Conflict, ConnectionFailed, Elector, NotFound
from zerotide.kube.client import Object
from zerotide.kube.lease import decide

ME, OTHER = "me", "other"


def lease(holder: str) -> Object:
    """Make a lease record held by somebody."""
    return {"spec": {"holderIdentity": holder}}


def test_the_four_choices() -> None:
    """Each situation has one answer."""
    assert decide(None, ME, 0, 5) == "create"
    assert decide(lease(ME), ME, 100, 5) == "renew"
    assert decide(lease(""), ME, 0, 5) == "take"
    assert decide(lease(OTHER), ME, 5, 5) == "take"
    assert decide(lease(OTHER), ME, 4.999, 5) == "follow"


@given(
    renewals=st.lists(st.floats(0.0, 4.9), min_size=1, max_size=30),
    offset=st.floats(0.0, 1e6),
)
def test_a_holder_that_renews_in_time_is_never_displaced(renewals: list[float], offset: float) -> None:
    """The follower's clock may stand anywhere: only the time it saw nothing change counts."""
    now = offset
    for pause in renewals:
        seen_at = now
        now += pause
        assert decide(lease(OTHER), ME, now - seen_at, 5.0) == "follow"


DURATION = 0.5


class Server:
    """One Lease, kept as the API server keeps it: a write must know the newest version. It can be slow, or away."""

    def __init__(self) -> None:
        self.lease: Object | None = None
        self.delay = 0.0
        self.away = False
        self.asked: list[str] = []
        self._version = 0

    @property
    def holder(self) -> str:
        """Return who holds the Lease."""
        return str((self.lease or {"spec": {}})["spec"].get("holderIdentity", ""))

    async def get(self, *_: Any) -> Object:
        """Read."""
        await self._answer("get")
        if self.lease is None:
            raise NotFound(404, "NotFound", "no lease")
        return copy.deepcopy(self.lease)

    async def create(self, _: Any, obj: Object) -> Object:
        """Make."""
        await self._answer("create")
        if self.lease is not None:
            raise AlreadyExists(409, "AlreadyExists", "there is one")
        return self._keep(obj)

    async def replace(self, _: Any, obj: Object) -> Object:
        """Write, if nobody else did meanwhile."""
        await self._answer("replace")
        if self.lease is None:
            raise NotFound(404, "NotFound", "no lease")
        if obj["metadata"]["resourceVersion"] != self.lease["metadata"]["resourceVersion"]:
            raise Conflict(409, "Conflict", "changed meanwhile")
        return self._keep(obj)

    def steal(self, name: str) -> None:
        """Have another process write its name."""
        assert self.lease is not None
        self._keep({**self.lease, "spec": {**self.lease["spec"], "holderIdentity": name}})

    def _keep(self, obj: Object) -> Object:
        self._version += 1
        self.lease = copy.deepcopy({**obj, "metadata": {**obj["metadata"], "resourceVersion": str(self._version)}})
        return copy.deepcopy(self.lease)

    async def _answer(self, verb: str) -> None:
        self.asked.append(verb)
        if self.away:
            raise ConnectionFailed("away")
        await asyncio.sleep(self.delay)


class Process:
    """One elector, and whether it was told that it lost."""

    def __init__(self, server: Server, name: str = "me") -> None:
        self.lost = 0
        client: Any = server
        self.elector = Elector(client, "system", "l", name, on_lost=self._lose, duration=DURATION, retry=DURATION / 5)

    def _lose(self) -> None:
        self.lost += 1

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Elector]:
        """Run as long as the context lasts."""
        task = asyncio.create_task(self.elector.run())
        try:
            yield self.elector
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def until(holds: Any, seconds: float = 3.0) -> None:
    """Wait until something holds."""
    async with asyncio.timeout(seconds):
        while not holds():
            await asyncio.sleep(0.005)


async def test_a_renewal_is_one_request_at_a_third() -> None:
    """Who holds it knows its version, and need not look."""
    server = Server()
    async with Process(server).running() as elector:
        await until(lambda: elector.leading)
        server.asked.clear()
        await asyncio.sleep(DURATION * 2)
        assert set(server.asked) == {"replace"} and 4 <= len(server.asked) <= 7


@pytest.mark.parametrize("part", [0.2, 0.4])
async def test_a_slow_server_costs_nothing(part: float) -> None:
    """An answer that takes a good part of the duration is waited for."""
    server = Server()
    process = Process(server)
    async with process.running() as elector:
        await until(lambda: elector.leading)
        server.delay = DURATION * part
        for _ in range(40):
            await asyncio.sleep(0.05)
            assert elector.elected.is_set() and not process.lost
        assert server.holder == "me"


async def test_who_could_not_renew_writes_nothing_and_goes_on_if_nobody_took_over() -> None:
    """A pause is better than an end: the next process would have to start on the same busy machine."""
    server = Server()
    process = Process(server)
    async with process.running() as elector:
        await until(lambda: elector.leading)
        server.away = True
        await until(lambda: not elector.leading)
        await asyncio.sleep(DURATION * 2)
        assert not elector.leading and not process.lost
        server.away = False
        await until(lambda: elector.leading, DURATION)
        assert server.lease is not None and server.lease["spec"]["leaseTransitions"] == 0
        assert not process.lost


async def test_who_could_not_renew_holds_it_again_however_slow_the_server_is() -> None:
    """A busy machine answers late for a while; until it is quiet, somebody has to write."""
    server = Server()
    process = Process(server)
    async with process.running() as elector:
        await until(lambda: elector.leading)
        server.away = True
        await until(lambda: not elector.leading)
        await asyncio.sleep(DURATION / 2)
        server.away, server.delay = False, DURATION * 0.35
        await until(lambda: elector.leading)
        assert not process.lost


@pytest.mark.parametrize("away", [False, True])
async def test_who_was_displaced_ends(away: bool) -> None:
    """At once, or as soon as it hears of it; and it never writes again."""
    server = Server()
    process = Process(server)
    async with process.running() as elector:
        await until(lambda: elector.leading)
        server.away = away
        server.steal("thief")
        if away:
            await until(lambda: not elector.leading)
            server.away = False
        await until(lambda: process.lost)
        await asyncio.sleep(DURATION)
        assert not elector.leading and process.lost == 1 and server.holder == "thief"


async def test_a_lease_that_somebody_deleted_is_made_again() -> None:
    """By whoever comes first."""
    server = Server()
    process = Process(server)
    async with process.running() as elector:
        await until(lambda: elector.leading)
        server.lease = None
        await until(lambda: server.holder == "me")
        assert elector.leading and not process.lost


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_two_never_lead_at_a_time(seed: int) -> None:
    """Whatever the server does to them; and once it is well again, exactly one does."""
    server, rng = Server(), random.Random(seed)
    one, other = Process(server, "one"), Process(server, "other")
    async with one.running() as first, other.running() as second:
        for _ in range(60):
            await asyncio.sleep(0.03)
            assert not (first.leading and second.leading)
            if rng.random() < 0.3:
                server.away, server.delay = rng.random() < 0.4, rng.choice([0.0, 0.05, 0.3])
        server.away, server.delay = False, 0.0
        ended = one.lost + other.lost
        await until(lambda: first.leading != second.leading or ended)
        assert ended <= 1
