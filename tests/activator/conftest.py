"""Fixtures of the activator's tests: they run on uvloop, as the activator does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path

import aiohttp
import pytest
import uvloop
from aiohttp import web

from tests.activator.records import Exporter
from tests.activator.replica import Replica
from tests.activator.stack import Stack
from tests.loopback import served


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Run asynchronous tests on uvloop."""
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture
async def replica() -> AsyncIterator[Replica]:
    """Serve a model that is none, on loopback."""
    async with Replica() as running:
        yield running


@pytest.fixture
async def stack(tmp_path: Path) -> AsyncIterator[Stack]:
    """Run an activator on loopback, without a cluster."""
    async with Stack(tmp_path / "usage") as running:
        yield running


@pytest.fixture
async def exporter() -> AsyncIterator[Exporter]:
    """Serve an exporter."""
    fake = Exporter()
    app = web.Application(client_max_size=1 << 30)
    app.router.add_post("/internal/usage", fake.take)
    app.router.add_get("/page", fake.page)
    async with served(app) as base:
        fake.url = f"{base}/internal/usage"
        yield fake


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    """Open a client."""
    async with aiohttp.ClientSession() as opened:
        yield opened
