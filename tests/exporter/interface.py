"""The exporter on a real socket for tests: its interface, a ledger with one life in it, and its API server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer

from tests.billing.test_rating import gpu, index
from tests.billing.worlds import T0, life
from tests.exporter.fakeapi import FakeApi
from tests.exporter.records import intent, settlement
from zerotide.api.scalars import SECOND
from zerotide.exporter.access import Access
from zerotide.exporter.archive.archive import Archive
from zerotide.exporter.board import Board
from zerotide.exporter.endpoints import wake_of
from zerotide.exporter.http import Interface
from zerotide.exporter.metrics import LedgerCollector, registry
from zerotide.exporter.sqlite import SQLiteStore
from zerotide.exporter.store import Store
from zerotide.exporter.threads import Threaded
from zerotide.kube import Client
from zerotide.kube.clock import Clock

ACTIVATOR = "system:serviceaccount:zerotide-system:zerotide-activator"
OPERATOR = "system:serviceaccount:zerotide-system:zerotide-operator"
DELIVERY = {"Authorization": "Bearer activator-token"}
READER = {"X-Zerotide-Token": "reader-token"}
PRICES = index(gpu())


class World:
    """An interface on a real socket, its ledger and its API server."""

    def __init__(self, http: TestClient[Any, Any], writer: Threaded[SQLiteStore], api: FakeApi) -> None:
        self.http, self.writer, self.api = http, writer, api
        self.problem = ""


@pytest.fixture
async def world(api: FakeApi, client: Client, tmp_path: Path) -> AsyncIterator[World]:
    """Serve a ledger with one life in it."""
    writer = await Threaded.open(lambda: SQLiteStore(tmp_path / "l.sqlite"), "writer")
    reader: Threaded[Store] = await Threaded.open(lambda: SQLiteStore(tmp_path / "l.sqlite"), "reader")
    await writer.run(lambda store: store.add_facts(life(scheduled=0, started=1, ready=2, finished=60), T0))
    api.tokens["activator-token"] = {"username": ACTIVATOR, "audience": "zerotide-exporter"}
    api.tokens["reader-token"] = {"username": "ada", "audience": ""}
    api.readers.add(("ada", "demo"))
    made: list[World] = []
    interface = Interface(
        writer=writer,  # type: ignore[arg-type]
        reader=reader,
        prices=lambda: PRICES,
        board=Board(lambda: PRICES, Clock().now_us, dict, wake_of),
        access=Access(client, ACTIVATOR, OPERATOR),
        clock=Clock(),
        registry=registry(LedgerCollector({})),
        alive=lambda: made[0].problem,
        ready=lambda: made[0].problem,
        archive=Archive(tmp_path / "archive"),
    )
    async with TestClient(TestServer(interface.application())) as http:
        made.append(World(http, writer, api))
        yield made[0]
    await reader.close()
    await writer.close()


def body(*numbers: int) -> bytes:
    """Return the records of several requests, as the activator sends them."""
    return b"".join(
        intent(str(n), forwarded_us=T0 + 10 * SECOND).encode() + settlement(str(n), ended_us=T0 + 20 * SECOND).encode()
        for n in numbers
    )
