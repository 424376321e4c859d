"""Of two exporters on one ledger the one that holds the Lease seals, and the other one when it is lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.billing.test_rating import gpu, index
from tests.billing.worlds import T0
from tests.exporter.pgserver import serving
from tests.exporter.test_stores import emptied, lived
from tests.kube.test_lease import DURATION, Server
from zerotide.api.scalars import HOUR, SECOND
from zerotide.billing.rollups import QUARTER
from zerotide.billing.sealing import broken, bucket_of
from zerotide.exporter.postgres import PostgresStore
from zerotide.exporter.sealtask import SealTask
from zerotide.exporter.sqlite import SQLiteStore
from zerotide.exporter.store import Store
from zerotide.exporter.threads import Threaded
from zerotide.kube import Elector

START = bucket_of(T0)
Elect = Callable[[Callable[[], None]], Elector]


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """Run a PostgreSQL server."""
    with serving() as address:
        yield address


class Exporter:
    """The sealing part of an exporter."""

    def __init__(self, store: Threaded[Store], clock: Any, elect: Elect | None) -> None:
        self.store, self.synced = store, asyncio.Event()
        prices: Any = SimpleNamespace(
            reflector=SimpleNamespace(synced=self.synced), current=lambda: index(gpu("0.001"))
        )
        self.task = SealTask(store, prices, clock, grace_us=HOUR, interval_s=0.02, elect=elect)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run as long as the context lasts."""
        task = asyncio.create_task(self.task.run())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def sealed(self, number: int) -> list[int]:
        """Wait until so many buckets are sealed; return the epoch of each."""
        async with asyncio.timeout(20):
            while True:
                links = await self.store.run(lambda store: store.seals.walk(list))
                assert list(broken(links)) == []
                if len(links) >= number:
                    return [link.seal.epoch for link in links if link.seal]
                await asyncio.sleep(0.02)


async def test_nothing_is_sealed_before_the_prices_are_known(tmp_path: Path) -> None:
    store: Threaded[Store] = await Threaded.open(lambda: SQLiteStore(tmp_path / "l.sqlite"), "sealer")
    await store.run(lambda opened: opened.add_facts(lived(scheduled=0, finished=60), T0))
    clock = SimpleNamespace(now_us=lambda: START + HOUR + 2 * QUARTER)
    exporter = Exporter(store, clock, None)
    async with exporter.running():
        await asyncio.sleep(0.1)
        assert exporter.task.until_us == 0
        exporter.synced.set()
        assert await exporter.sealed(2) == [1, 1]
    assert exporter.task.until_us == START + 2 * QUARTER
    await store.close()


async def test_one_of_two_seals_and_the_other_one_once_the_lease_is_lost(server: str) -> None:
    address, lease, now = emptied(server), Server(), [START + HOUR + QUARTER]
    clock = SimpleNamespace(now_us=lambda: now[0])

    async def exporter(name: str) -> Exporter:
        client: Any = lease

        def elect(on_lost: Callable[[], None]) -> Elector:
            return Elector(client, "system", "l", name, on_lost=on_lost, duration=DURATION, retry=DURATION / 5)

        store: Threaded[Store] = await Threaded.open(lambda: PostgresStore(address), name)
        made = Exporter(store, clock, elect)
        made.synced.set()
        return made

    one, other = await exporter("one"), await exporter("other")
    await one.store.run(lambda store: store.add_facts(lived(scheduled=0, finished=5000), T0))
    async with one.running():
        assert await one.sealed(1) == [1]
        async with other.running():
            now[0] += QUARTER
            before = await one.sealed(2)
            # Somebody takes it, and dies: whoever is quicker goes on, with an epoch of its own.
            lease.steal("a third one")
            async with asyncio.timeout(20):
                while lease.holder not in ("one", "other"):
                    await asyncio.sleep(0.02)
            now[0] += QUARTER
            after = await one.sealed(3)
            assert after[:2] == before
            assert after[2] > before[1] >= before[0] == 1
    assert lease.holder == "", "it is given up at the end, so that nobody has to wait"
    for each in (one, other):
        await each.store.close()


async def test_a_paused_holder_comes_back_to_a_ledger_that_refuses_it(server: str) -> None:
    """It does not notice that its Lease is gone: it claims anew only if it still holds it."""
    address, now = emptied(server), [START + HOUR + QUARTER]
    clock = SimpleNamespace(now_us=lambda: now[0])
    store: Threaded[Store] = await Threaded.open(lambda: PostgresStore(address), "paused")
    await store.run(lambda opened: opened.add_facts(lived(scheduled=0, finished=5000), T0))
    leads = [True]
    lost: list[Callable[[], None]] = []

    class Held:
        elected = asyncio.Event()
        elected.set()

        @property
        def leading(self) -> bool:
            return leads[0]

        async def run(self) -> None:
            await asyncio.Event().wait()

        async def release(self) -> None:
            leads[0] = False

    def elect(on_lost: Callable[[], None]) -> Any:
        lost.append(on_lost)
        return Held()

    paused = Exporter(store, clock, elect)
    paused.synced.set()
    async with paused.running():
        assert await paused.sealed(1) == [1]
        assert await store.run(lambda opened: opened.seals.claim()) == 2
        leads[0] = False
        now[0] += 2 * QUARTER
        await asyncio.sleep(0.1)
        assert await paused.sealed(1) == [1], "who does not lead seals nothing"
        leads[0] = True
        assert await paused.sealed(3) == [1, 3, 3], "refused once, and claimed anew"
    assert lost and T0 % SECOND == 0
    await store.close()
