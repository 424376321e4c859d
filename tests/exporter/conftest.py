"""What the exporter's tests share: a fake API server, a client of it, a ledger on disk, a cluster of their own."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from e2e.cluster import Cluster
from e2e.fixtures import session_name
from tests.exporter.budgeting import World
from tests.exporter.fakeapi import FakeApi
from zerotide.exporter.sqlite import SQLiteStore
from zerotide.exporter.store import Store
from zerotide.exporter.threads import Threaded
from zerotide.kube import Client, Credentials


@pytest.fixture(scope="module")
def exporter_cluster() -> Iterator[Cluster]:
    """Start a cluster where no other exporter lets pods go, or use it where it runs."""
    cluster = Cluster(os.environ.get("ZEROTIDE_EXPORTER_CLUSTER") or f"{session_name()}-exp")
    leave = cluster.running or os.environ.get("ZEROTIDE_KEEP") == "1"
    try:
        cluster.up()
        yield cluster
    finally:
        if not leave:
            cluster.down()


@pytest.fixture
async def api() -> AsyncIterator[FakeApi]:
    """Serve a fake API."""
    async with FakeApi() as fake:
        yield fake


@pytest.fixture
async def client(api: FakeApi) -> AsyncIterator[Client]:
    """Connect to the fake API."""
    async with Client(Credentials(api.url, None, lambda: "exporter")) as connected:
        yield connected


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SQLiteStore]:
    """Open an empty ledger."""
    opened = SQLiteStore(tmp_path / "ledger.sqlite")
    yield opened
    opened.close()


@pytest.fixture
async def ledger(tmp_path: Path) -> AsyncIterator[Threaded[Store]]:
    """Open an empty ledger in a thread of its own."""
    opened: Threaded[Store] = await Threaded.open(lambda: SQLiteStore(tmp_path / "l.sqlite"), "ledger")
    yield opened
    await opened.close()


@pytest.fixture
async def world(api: FakeApi, client: Client, ledger: Threaded[Store]) -> AsyncIterator[World]:
    """Run budgets on an empty ledger."""
    made = World(api, client, ledger)
    async with made.running():
        yield made
