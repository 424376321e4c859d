"""Whatever instant the exporter dies at, the ledger ends up as if it never had."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import socket
import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_URL, uuid5

import aiohttp
import pytest

from tests.billing.worlds import T0, pod
from tests.exporter.fakeapi import FakeApi, Object
from tests.exporter.pgserver import serving
from tests.exporter.records import intent, settlement
from zerotide.api.scalars import SECOND
from zerotide.api.usage import Intent, Settlement
from zerotide.billing.extract import pod_facts
from zerotide.billing.facts import END_RANK, Fact, Kind
from zerotide.billing.ledger import folded
from zerotide.billing.rating import Period
from zerotide.exporter.pods import PodMeter
from zerotide.exporter.postgres import PostgresStore
from zerotide.exporter.pricefile import load_prices
from zerotide.exporter.sealchecks import seal_checks
from zerotide.exporter.sqlite import SQLiteStore
from zerotide.exporter.threads import Threaded
from zerotide.kube import Client
from zerotide.kube.clock import Clock

FLEETING = frozenset({Kind.READY})
"""What no later state of a pod repeats: an exporter that was down at that moment cannot know it."""


def stages(name: str, offset: float) -> list[Object]:
    """Return the successive objects of one pod's life."""
    times: list[dict[str, Any]] = [
        {},
        {"scheduled": offset + 1},
        {"scheduled": offset + 1, "started": offset + 3},
        {"scheduled": offset + 1, "started": offset + 3, "ready": offset + 9},
        {"scheduled": offset + 1, "started": offset + 3, "ready": offset + 9, "deleted": offset + 60},
        {"scheduled": offset + 1, "started": offset + 3, "deleted": offset + 60, "finished": offset + 63},
    ]
    gpu = {"nvidia.com/gpu": "1"}
    return [pod(name, uid=uid_of(name), created=offset, requests=gpu, **each) for each in times]


def uid_of(name: str) -> str:
    """Return the uid of a pod."""
    return str(uuid5(NAMESPACE_URL, name))


def lasting(facts: set[Fact]) -> set[Fact]:
    """Leave out what an exporter that was down cannot know."""
    return {fact for fact in facts if fact.kind not in FLEETING}


def proved(lives: list[list[Object]]) -> set[Fact]:
    """Return all that was ever to be seen of these pods."""
    return {fact for life in lives for stage in life for fact in pod_facts("local", stage)}


@dataclass
class Exporter:
    """A real exporter process on one ledger and one port."""

    api: FakeApi
    folder: Path
    port: int = 0
    database: str = ""
    kills: int = 0
    codes: list[int] = field(default_factory=list)
    process: asyncio.subprocess.Process | None = None

    @property
    def ledger(self) -> Path:
        """Return the ledger's file."""
        return self.folder / "ledger.sqlite"

    async def start(self) -> None:
        """Start the process."""
        if not self.port:
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                self.port = free.getsockname()[1]
        kubeconfig = self.folder / "kubeconfig"
        kubeconfig.write_text(self.api.kubeconfig())
        flags = ["--listen", "127.0.0.1", "--port", str(self.port), "--ledger", str(self.ledger)]
        flags += ["--database", self.database]
        fast = ["--settle-interval", "50ms", "--settle-lag", "0s"]
        with (self.folder / "log").open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "zerotide.exporter", *flags, *fast),
                stderr=log,
                env={**os.environ, "KUBECONFIG": str(kubeconfig), "POD_NAME": "exporter-0"},
            )

    async def ready(self) -> None:
        """Wait until it answers: before that it has no handler for SIGTERM."""
        async with asyncio.timeout(60), aiohttp.ClientSession() as session:
            while True:
                try:
                    async with session.get(f"http://127.0.0.1:{self.port}/readyz") as answer:
                        if answer.status == 200:
                            return
                except aiohttp.ClientError:
                    pass
                await asyncio.sleep(0.05)

    async def end(self, number: signal.Signals) -> None:
        """Send a signal and wait for the end."""
        assert self.process is not None
        self.process.send_signal(number)
        self.codes.append(await asyncio.wait_for(self.process.wait(), 30))

    async def kill_at_random(self, rng: random.Random, times: int) -> None:
        """Kill and restart without a pause."""
        for _ in range(times):
            await asyncio.sleep(rng.uniform(0.4, 2.2))
            await self.end(signal.SIGKILL)
            self.kills += 1
            await self.start()


async def deliver(port: int, records: list[Intent | Settlement], rng: random.Random) -> None:
    """Send records in small batches, each until it is acknowledged, as the activator does."""
    async with aiohttp.ClientSession() as session:
        while records:
            batch, records = records[:4], records[4:]
            body = b"".join(record.encode() for record in batch)
            while True:
                try:
                    async with session.post(
                        f"http://127.0.0.1:{port}/internal/usage",
                        data=body,
                        headers={"Authorization": "Bearer activator-token"},
                    ) as answer:
                        if answer.status == 204:
                            break
                except aiohttp.ClientError:
                    pass
                await asyncio.sleep(0.05)
            await asyncio.sleep(rng.uniform(0, 0.05))


async def churn(api: FakeApi, lives: list[list[Object]], rng: random.Random) -> None:
    """Let all pods live, a stage at a time, in random order."""
    waiting = [list(life) for life in lives]
    while waiting:
        life = rng.choice(waiting)
        await api.put("pods", life.pop(0))
        waiting = [each for each in waiting if each]
        await asyncio.sleep(rng.uniform(0, 0.06))


async def in_step(api: FakeApi, lives: list[list[Object]], ledger: Path) -> None:
    """Let all pods live, each stage once the ledger has the one before: so there is a write for each, however slow."""
    for stage in zip(*lives, strict=True):
        for obj in stage:
            await api.put("pods", obj)
        told = {fact for obj in stage for fact in pod_facts("local", obj)}
        while not told <= known(ledger):
            await asyncio.sleep(0.01)


def known(ledger: Path) -> set[Fact]:
    """Return the facts that a file has by now, which may not be a ledger yet."""
    with closing(sqlite3.connect(ledger)) as file, suppress(sqlite3.OperationalError):
        return {Fact(*row) for row in file.execute("SELECT cluster, pod_uid, kind, key, t_us FROM known")}
    return set()


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """Run a PostgreSQL server."""
    with serving() as address:
        yield address


@pytest.mark.parametrize("seed", [1, *(pytest.param(seed, marks=pytest.mark.soak) for seed in range(2, 12))])
async def test_killed_at_random_the_ledger_is_that_of_an_uninterrupted_run(
    api: FakeApi, tmp_path: Path, seed: int
) -> None:
    lengths = await killed_at_random(Exporter(api, tmp_path), api, seed, kills=6, pods=40)
    assert lengths == [62 * SECOND] * 40


async def test_killed_at_random_a_ledger_in_a_database_is_whole_as_well(
    api: FakeApi, tmp_path: Path, server: str
) -> None:
    lengths = await killed_at_random(Exporter(api, tmp_path, database=server), api, 1, kills=2, pods=12)
    assert lengths == [62 * SECOND] * 12


async def killed_at_random(exporter: Exporter, api: FakeApi, seed: int, *, kills: int, pods: int) -> list[int]:
    """Let pods live and requests come while the exporter is killed, and compare its ledger with the truth.

    Return how long each pod was allocated.
    """
    rng = random.Random(seed)
    user = "system:serviceaccount:zerotide-system:zerotide-activator"
    api.tokens["activator-token"] = {"username": user, "audience": "zerotide-exporter"}
    lives = [stages(f"p{number}", number * 7) for number in range(pods)]
    sent: list[Intent | Settlement] = []
    for number in range(200):
        uid = uid_of(f"p{rng.randrange(pods)}")
        sent.append(intent(str(number), forwarded_us=T0 + number * SECOND, pod_uid=uid))
        sent.append(settlement(str(number), ended_us=T0 + (number + rng.randrange(9)) * SECOND))
    await exporter.start()
    await asyncio.gather(
        exporter.kill_at_random(rng, kills),
        churn(api, lives, rng),
        deliver(exporter.port, sent, rng),
    )
    await api.until(lambda: not api.objects["pods"], 60)
    store = PostgresStore(exporter.database) if exporter.database else SQLiteStore(exporter.ledger)
    async with asyncio.timeout(30):
        while store.unsettled():
            await asyncio.sleep(0.05)
    await exporter.ready()
    await exporter.end(signal.SIGTERM)

    assert (exporter.kills, exporter.codes[-1]) == (kills, 0)
    assert lasting(store.facts()) == lasting(proved(lives))
    assert store.facts() <= proved(lives)
    assert [each.request_id for each in store.attempts()] == sorted(map(str, range(200)), key=int)
    assert all(each.ended_us is not None for each in store.attempts())
    tokens = {labels[3]: value for (name, labels), value in store.series().items() if name == "tokens"}
    assert tokens == {"input": 200 * 4, "cached_input": 200 * 3, "output": 200 * 5}
    # It sealed all the while, from the first pod on, by the prices that ship with it.
    assert store.seals.head() is not None
    checks = seal_checks(store, load_prices(None), "", "", Period(0, T0 + 10**12), Clock().now_us())
    assert [check.differences for check in checks] == [(), ()]
    (records,) = store.records("", "", Period(0, T0 + 10**12))
    lifetimes = folded(records, T0 + 10**12).lifetimes
    store.close()
    return [life.allocated_us for life in lifetimes]


class Dying(SQLiteStore):
    """A ledger whose process dies at the n-th write, before or after it is durable."""

    def __init__(self, path: Path, at: int, after: bool) -> None:
        super().__init__(path)
        self.left, self.after = at, after

    def add_facts(self, facts: Any, observed_us: int) -> None:
        """Write, or die."""
        self.left -= 1
        if self.left < 0 and not self.after:
            raise Death
        super().add_facts(facts, observed_us)
        if self.left < 0:
            raise Death


class Death(Exception):
    """The end of a process."""


async def meter_until(api: FakeApi, client: Client, make: Callable[[], SQLiteStore], done: Callable[[], bool]) -> bool:
    """Run a meter until it dies, or until all is done; tell whether it died."""
    store: Any = await Threaded.open(make, "ledger")
    meter = asyncio.create_task(PodMeter(client, store, Clock(), lambda pod: ("", None), "local").run())
    finished = asyncio.create_task(api.until(done))
    await asyncio.wait([meter, finished], return_when=asyncio.FIRST_COMPLETED)
    died = meter.done()
    for task in (meter, finished):
        task.cancel()
    outcomes = await asyncio.gather(meter, finished, return_exceptions=True)
    await store.close()
    if died:
        assert isinstance(outcomes[0], ExceptionGroup)
        assert outcomes[0].subgroup(Death)
    return died


@pytest.mark.parametrize("after", [False, True], ids=["before the commit", "after the commit"])
async def test_dying_at_every_write_changes_nothing(api: FakeApi, client: Client, tmp_path: Path, after: bool) -> None:
    boundary, died = 0, True
    while died:
        path = tmp_path / f"{boundary}.sqlite"
        lives = [stages(f"b{boundary}-{number}", number * 7) for number in range(3)]
        steps = asyncio.create_task(in_step(api, lives, path))

        prefix = f"b{boundary}-"

        def done(prefix: str = prefix) -> bool:
            ended = (obj for _, type_, obj in api.events["pods"] if type_ == "DELETED")
            return len([obj for obj in ended if str(obj["metadata"]["name"]).startswith(prefix)]) == 3

        died = await meter_until(api, client, lambda: Dying(path, boundary, after), done)  # noqa: B023
        if died:
            assert not await meter_until(api, client, lambda: SQLiteStore(path), done)  # noqa: B023
        await steps
        store = SQLiteStore(path)
        assert lasting(store.facts()) == lasting(proved(lives))
        ends = [fact for fact in store.facts() if fact.kind in END_RANK]
        assert len(ends) == 3
        store.close()
        boundary += 1
    assert boundary > len(stages("any", 0)), "there was a write for each stage to die at"
