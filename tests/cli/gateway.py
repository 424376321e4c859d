"""A gateway on loopback: it answers as told and remembers what it was asked."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from tests.loopback import served

Respond = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass
class Gateway:
    """What it was asked, and how it answers."""

    respond: Respond
    url: str = ""
    asked: list[tuple[str, dict[str, str], Any]] = field(default_factory=list)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Remember and answer."""
        self.asked.append((request.path, dict(request.headers), await request.json()))
        return await self.respond(request)


@asynccontextmanager
async def serve(respond: Respond) -> AsyncIterator[Gateway]:
    """Serve on a free port of loopback."""
    gateway = Gateway(respond)
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", gateway.handle)
    async with served(app) as gateway.url:
        yield gateway


def streaming(*pieces: bytes, headers: dict[str, str] | None = None, abort: bool = False) -> Respond:
    """Answer with a stream of these pieces; `abort` breaks the connection instead of ending it."""

    async def respond(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream", **(headers or {})})
        await response.prepare(request)
        for piece in pieces:
            await response.write(piece)
        if abort and request.transport is not None:
            request.transport.abort()
        return response

    return respond


def answering(status: int, body: Any, **headers: str) -> Respond:
    """Answer with one JSON document."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}

    async def respond(request: web.Request) -> web.StreamResponse:
        return web.json_response(body, status=status, headers=named)

    return respond
