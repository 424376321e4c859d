"""A server that leads elsewhere is told nothing more: no token goes where it points, and nothing there is believed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from zerotide.activator.council.council import Council
from zerotide.activator.council.links import Links
from zerotide.activator.council.membership import Member
from zerotide.controller.activators import Activator
from zerotide.controller.costs import Costs
from zerotide.controller.streams import Streams
from zerotide.kube import ApiError, Client, Clock, Credentials
from zerotide.kube.resources import PODS


class Trap:
    """Answer everything with a redirect to a place of one's own, and note who comes there."""

    def __init__(self, status: int) -> None:
        self.status, self.port = status, 0
        self.asked: asyncio.Queue[str] = asyncio.Queue()
        self.caught: list[str] = []

    async def handle(self, request: web.Request) -> web.Response:
        """Answer one call."""
        if request.path == "/elsewhere":
            self.caught.append(request.headers.get("Authorization", "nobody"))
            return web.json_response({})
        self.asked.put_nowait(request.headers.get("Authorization", "nobody"))
        return web.Response(status=self.status, headers={"Location": "/elsewhere"})


@pytest.fixture(params=[301, 302, 303, 307, 308])
async def trap(request: pytest.FixtureRequest) -> AsyncIterator[Trap]:
    """Listen on loopback."""
    made, app = Trap(request.param), web.Application()
    app.router.add_route("*", "/{path:.*}", made.handle)
    async with TestServer(app, host="127.0.0.1") as server:
        assert server.port is not None
        made.port = server.port
        yield made


@asynccontextmanager
async def costs(port: int, token: Path) -> AsyncIterator[None]:
    """Ask it as the exporter."""
    task = asyncio.create_task(Costs(f"http://127.0.0.1:{port}", token, lambda key: None, every=0.01).run())
    yield
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@asynccontextmanager
async def streams(port: int, token: Path) -> AsyncIterator[None]:
    """Follow it as an activator's stream of demand."""

    def ignore(*_: object) -> None:
        pass

    made = Streams(token.read_text, port, Clock(), on_demand=ignore, on_wake=ignore, on_membership=ignore)
    made.start()
    made.expect((Activator("act-0", "uid-0", "127.0.0.1", True),))
    yield
    assert made.views == {}
    await made.close()


@asynccontextmanager
async def links(port: int, token: Path) -> AsyncIterator[None]:
    """Call it as another activator."""

    async def review(_: str) -> None:
        return None

    clock = Clock()
    council = Council("a", None, clock.monotonic, clock.now_us)
    council.set_members([Member("b", "127.0.0.1", port)])
    task = asyncio.create_task(Links(council, token.read_text, review, "").run())
    yield
    assert not council.linked
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@pytest.mark.parametrize("client", [costs, streams, links])
async def test_who_asks_again_and_again_is_never_led_elsewhere(trap: Trap, client: Any, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("secret")
    async with asyncio.timeout(20), client(trap.port, tmp_path / "token"):
        assert [await trap.asked.get() for _ in range(2)] == ["Bearer secret"] * 2
    assert trap.caught == []


async def test_an_api_server_that_leads_elsewhere_has_refused(trap: Trap) -> None:
    """A proxy before it, say: a watch, or a call that it passes on to a service, ends there."""
    async with asyncio.timeout(20), Client(Credentials(f"http://127.0.0.1:{trap.port}", None, lambda: "secret")) as api:
        with pytest.raises(ApiError) as raised:
            async with api.stream("GET", PODS.path("demo")):
                pytest.fail("it was read")
        assert raised.value.status == trap.status
        with pytest.raises(ApiError):
            await api.get(PODS, "m", "demo")
    assert trap.caught == []
