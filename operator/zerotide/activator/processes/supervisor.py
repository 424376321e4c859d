"""The parent: starts the children, answers for all of them, and lets them drain."""

from __future__ import annotations

import asyncio
import logging
import shutil
import tempfile
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from pathlib import Path
from socket import socket
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.openmetrics.exposition import CONTENT_TYPE_LATEST

from zerotide.activator.admin.app import Admin
from zerotide.activator.exposition import pieces
from zerotide.activator.failures import ChildSilent
from zerotide.activator.processes.child import Child
from zerotide.activator.processes.demand import MergedStream
from zerotide.activator.processes.pages import Sum
from zerotide.activator.settings import Settings
from zerotide.activator.wire import open_socket
from zerotide.api.names import AUDIENCE_ACTIVATOR
from zerotide.kube import Client, Clock, TokenReviewer, process

log = logging.getLogger(__name__)

GRACE = 5.0
"""Seconds for which a child that dies does not make its pod unready: its socket takes connections until it is back."""
LOOK = 0.1
UNHEALTHY = 60.0
"""Seconds without a sign from a child after which the pod is to be started anew."""
SLACK = 10.0
"""Seconds that children may take to end beyond their drain, before they are killed."""


class Supervisor:
    """The processes of one pod."""

    def __init__(self, settings: Settings, client: Client, clock: Clock, arguments: Sequence[str]) -> None:
        self.settings, self.clock = settings, clock
        self._folder = Path(tempfile.mkdtemp(prefix="zerotide-"))
        self._sum = Sum()
        self._draining = False
        self._tasks: list[asyncio.Task[None]] = []
        self.port = settings.port
        self.tls_port = settings.fronts.tls_port
        self.admin_port = 0
        self.children = [
            Child(number, settings.processes, self._folder, arguments, clock.offset_us, self._open, clock.monotonic)
            for number in range(settings.processes)
        ]
        for child in self.children:
            child.died = lambda child=child: self._died(child)  # type: ignore[misc]
        self.admin = Admin(
            self._unhealthy,
            self._unready,
            self._metrics,
            self._stream,
            TokenReviewer(client, AUDIENCE_ACTIVATOR).review,
            settings.operator_user,
        )

    async def start(self) -> None:
        """Start all children; return once each of them serves."""
        settings = self.settings
        # Ports are shared among the children from here on: whether somebody else has them shows only now.
        self.port = _free(settings.listen, self.port)
        if settings.fronts.tls_dir is not None:
            self.tls_port = _free(settings.listen, self.tls_port)
        self.admin_port = await self.admin.listen(settings.listen, settings.admin_port)
        for child in self.children:
            self._run(child.run())
        while True:
            if not await self._unready():
                break
            await asyncio.sleep(LOOK)
        log.info(
            "serving",
            extra={"port": self.port, "admin_port": self.admin_port, "processes": len(self.children)},
        )

    async def ended(self) -> None:
        """Return, or raise, as soon as a child is given up that never should be."""
        await process.first_end(self._tasks)

    async def drain(self) -> None:
        """Let every child drain, and wait for the last one."""
        self._draining = True
        for child in self.children:
            child.end()
            child.close_listeners()
        ends = [asyncio.create_task(child.ended.wait()) for child in self.children]
        _, late = await asyncio.wait(ends, timeout=self.settings.drain_timeout + SLACK)
        for task in late:
            task.cancel()
        log.info("drained", extra={"late": len(late)})

    async def stop(self) -> None:
        """End everything; children that still run are killed."""
        await self.admin.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for child in self.children:
            child.close_listeners()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _open(self) -> list[socket]:
        """Return one more listening socket for each port."""
        settings, fronts = self.settings, self.settings.fronts
        ports = (self.port,) if fronts.tls_dir is None else (self.port, self.tls_port)
        return [open_socket(settings.listen, port, shared=True) for port in ports]

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        self._tasks.append(asyncio.get_running_loop().create_task(work))

    def _died(self, child: Child) -> None:
        self._sum.died(child.number)

    async def _unhealthy(self) -> str:
        horizon = self.clock.monotonic() - UNHEALTHY
        silent = [str(child.number) for child in self.children if child.healthy_at < horizon]
        return f"no sign of process {', '.join(silent)}" if silent and not self._draining else ""

    async def _unready(self) -> str:
        if self._draining:
            return "draining"
        reasons = await asyncio.gather(*(self._unready_child(child) for child in self.children))
        return "; ".join(reason for reason in reasons if reason)

    async def _unready_child(self, child: Child) -> str:
        try:
            status, text = await child.ask("/readyz")
        except ChildSilent as error:
            graceful = child.was_ready and self.clock.monotonic() - child.healthy_at < GRACE + 5.0
            return "" if graceful else str(error)
        if status == 200:
            child.was_ready = True
            return ""
        return f"process {child.number}: {text.decode().strip()}"

    async def _metrics(self) -> tuple[bytes, str]:
        for child in self.children:
            # One after the other: adding up pages takes the parent's time, and its demand streams must not wait.
            with suppress(ChildSilent):
                status, text = await child.ask("/metrics")
                if status == 200:
                    self._sum.take(child.number, text.decode())
        return self._sum.render(self._own_metrics()), CONTENT_TYPE_LATEST

    def _own_metrics(self) -> str:
        horizon = self.clock.monotonic() - GRACE - 5.0
        running = sum(child.healthy_at > horizon for child in self.children)
        processes = GaugeMetricFamily("zerotide_activator_processes", "Processes of the wire that answer.", running)
        restarts = CounterMetricFamily(
            "zerotide_activator_process_restarts",
            "Processes of the wire that died and were started again.",
            sum(child.restarts for child in self.children),
        )
        return "".join(pieces((processes, restarts)))

    async def _stream(self) -> MergedStream | None:
        alive = [child for child in self.children if not (self._draining and child.ended.is_set())]
        stream = MergedStream(self.settings.pod_name, alive, self.clock.now_us, lambda: self._draining)
        try:
            await stream.open()
        except ChildSilent as error:
            log.warning("the demand is not told", extra={"error": str(error)})
            return None
        return stream


def _free(host: str, port: int) -> int:
    """Return a port that nobody listens on, any where it is 0. Raises OSError."""
    with open_socket(host, port) as listener:
        return int(listener.getsockname()[1])
