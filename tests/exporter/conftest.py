"""What the exporter's tests share: a fake API server, a client of it, a ledger on disk, a cluster of their own."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from e2e.cluster import Cluster
from e2e.fixtures import session_name
from tests.exporter.fakeapi import FakeApi
from zerotide.exporter.sqlite import SQLiteStore
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
