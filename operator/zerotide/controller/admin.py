"""The admin port: is this process alive, is it ready, what has it counted."""

from __future__ import annotations

from collections.abc import Callable

from aiohttp import web

from zerotide.controller.metrics import CONTENT_TYPE, Metrics

Problem = Callable[[], str]
"""Return what is wrong, or an empty string."""


class Admin:
    """Serve /healthz, /readyz and /metrics."""

    def __init__(self, host: str, port: int, metrics: Metrics, *, unhealthy: Problem, unready: Problem) -> None:
        self._host, self._wanted, self._metrics = host, port, metrics
        self._unhealthy, self._unready = unhealthy, unready
        self._runner: web.AppRunner | None = None

    async def start(self) -> int:
        """Listen; return the port."""
        app = web.Application()
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/metrics", self._metrics_page)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, self._host, self._wanted)
        await site.start()
        port: int = self._runner.addresses[0][1]
        return port

    async def stop(self) -> None:
        """Listen no longer."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def _healthz(self, _: web.Request) -> web.Response:
        return _told(self._unhealthy())

    async def _readyz(self, _: web.Request) -> web.Response:
        return _told(self._unready())

    async def _metrics_page(self, _: web.Request) -> web.Response:
        return web.Response(body=self._metrics.text(), headers={"Content-Type": CONTENT_TYPE})


def _told(problem: str) -> web.Response:
    return web.Response(text=f"{problem or 'ok'}\n", status=503 if problem else 200)
