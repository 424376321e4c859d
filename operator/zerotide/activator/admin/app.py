"""The admin server."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import suppress
from typing import Protocol

from aiohttp import web

from zerotide.activator.admin.bearer import Review, refuse


class Lines(Protocol):
    """A demand stream."""

    def lines(self) -> AsyncGenerator[bytes, None]:
        """Yield bytes of whole lines."""


class Admin:
    """Serve what kubelet, Prometheus and the operator ask for.

    `healthy` and `ready` return why not, or nothing; `metrics` returns the page of figures and its media type;
    `stream` returns the demand, None while it is not complete; `review` returns who a bearer token belongs to, without
    it everyone may read the demand.
    """

    def __init__(
        self,
        healthy: Callable[[], Awaitable[str]],
        ready: Callable[[], Awaitable[str]],
        metrics: Callable[[], Awaitable[tuple[bytes, str]]],
        stream: Callable[[], Awaitable[Lines | None]],
        review: Review | None,
        operator_user: str,
    ) -> None:
        self._healthy, self._ready, self._metrics = healthy, ready, metrics
        self._stream, self._review, self._operator_user = stream, review, operator_user
        self._runner: web.AppRunner | None = None

    async def listen(self, host: str, port: int) -> int:
        """Serve and return the port."""
        runner = await self._set_up()
        await web.TCPSite(runner, host, port).start()
        return int(runner.addresses[0][1])

    async def listen_at(self, path: str) -> None:
        """Serve on a socket in the file system, for the parent process."""
        await web.UnixSite(await self._set_up(), path).start()

    async def _set_up(self) -> web.AppRunner:
        app = web.Application()
        app.router.add_get("/healthz", self._get_healthz)
        app.router.add_get("/readyz", self._get_readyz)
        app.router.add_get("/metrics", self._get_metrics)
        app.router.add_get("/internal/demand", self._get_demand)
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=0.5)
        await self._runner.setup()
        return self._runner

    async def close(self) -> None:
        """End all streams and stop serving."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def _get_healthz(self, request: web.Request) -> web.Response:
        return _verdict(await self._healthy())

    async def _get_readyz(self, request: web.Request) -> web.Response:
        return _verdict(await self._ready())

    async def _get_metrics(self, request: web.Request) -> web.Response:
        page, media_type = await self._metrics()
        return web.Response(body=page, headers={"Content-Type": media_type})

    async def _get_demand(self, request: web.Request) -> web.StreamResponse:
        if self._review is not None:
            refusal = await refuse(request, self._review, self._operator_user, "may not read the demand")
            if refusal is not None:
                return refusal
        stream = await self._stream()
        if stream is None:
            return web.Response(status=503, text="not every process tells its demand\n")
        response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson", "Cache-Control": "no-store"})
        await response.prepare(request)
        lines = stream.lines()
        with suppress(ConnectionError):
            try:
                async for line in lines:
                    await response.write(line)
            finally:
                await lines.aclose()
        return response


def _verdict(problem: str) -> web.Response:
    return web.Response(status=503 if problem else 200, text=f"{problem or 'ok'}\n")
