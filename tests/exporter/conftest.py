"""What the exporter's tests share: a fake API server, a client of it, a ledger on disk."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.exporter.fakeapi import FakeApi
from zerotide.exporter.sqlite import SQLiteStore
from zerotide.kube import Client, Credentials


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
