"""A receiver of webhooks: a real server on loopback that verifies them as specified, by code of its own."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import ssl
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, Self

from aiohttp import web

KEY = bytes(range(32))
SECRET = "whsec_" + base64.b64encode(KEY).decode()
TOLERANCE_S = 300


class Received(NamedTuple):
    """A webhook that came, and by how many of the given keys its signature is right."""

    path: str
    id: str
    timestamp: int
    content: dict[str, Any]
    raw: bytes
    headers: dict[str, str]

    def signed_by(self, key: bytes) -> bool:
        """Tell whether one of its signatures is made with a key, and it is not old."""
        content = b".".join((self.id.encode(), str(self.timestamp).encode(), self.raw))
        want = base64.b64encode(hmac.new(key, content, hashlib.sha256).digest())
        given = [each.partition(",") for each in self.headers["webhook-signature"].split(" ")]
        fresh = abs(time.time() - self.timestamp) < TOLERANCE_S
        return fresh and any(kind == "v1" and hmac.compare_digest(each.encode(), want) for kind, _, each in given)


Answer = Callable[[], web.StreamResponse]


class Receiver:
    """Take webhooks; `answers` are what it says to the next ones, after which it takes them."""

    def __init__(self, *answers: int | Answer, folder: Path | None = None) -> None:
        """`folder` has a certificate for localhost."""
        self.answers = list(answers)
        self.got: list[Received] = []
        self.changed = asyncio.Condition()
        self.open = asyncio.Event()
        self.open.set()
        """While this is not set, no request is answered."""
        self._folder = folder
        self.url = ""

    async def __aenter__(self) -> Self:
        """Listen on a free port."""
        app = web.Application()
        app.router.add_post("/{path:.*}", self._take)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        context = None
        if self._folder is not None:
            context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            context.load_cert_chain(self._folder / "tls.crt", self._folder / "tls.key")
        await web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=context).start()
        scheme = "http" if context is None else "https"
        self.url = f"{scheme}://localhost:{self._runner.addresses[0][1]}/hook"
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop."""
        await self._runner.cleanup()

    async def until(self, number: int, timeout: float = 30) -> list[Received]:
        """Wait until so many have come; return all."""
        async with asyncio.timeout(timeout), self.changed:
            await self.changed.wait_for(lambda: len(self.got) >= number)
        return self.got

    async def _take(self, request: web.Request) -> web.StreamResponse:
        raw = await request.read()
        headers = {name.lower(): value for name, value in request.headers.items()}
        id, stamp = headers["webhook-id"], int(headers["webhook-timestamp"])
        async with self.changed:
            self.got.append(Received(request.path, id, stamp, json.loads(raw), raw, headers))
            self.changed.notify_all()
        await self.open.wait()
        answer = self.answers.pop(0) if self.answers else 204
        return web.Response(status=answer) if isinstance(answer, int) else answer()
