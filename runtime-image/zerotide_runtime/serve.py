"""One serving process from start to end.

The order of the start is what makes it fast: open the port, then fetch pages of the weights, read the tokenizer
and import numpy side by side. Requests that come meanwhile wait, and are the first to run. torch is imported when
it pays: for a second sequence beside the first, or while nobody asks for anything; at once on a machine with a GPU.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import signal
import socket
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zerotide_runtime.engine.engine import Engine
from zerotide_runtime.engine.limits import cpu_threads
from zerotide_runtime.errors import ModelTaken, NoModel
from zerotide_runtime.identity import identity
from zerotide_runtime.loading import Loading, begin_to_load, import_ahead
from zerotide_runtime.locate import parse_location
from zerotide_runtime.port import open_socket
from zerotide_runtime.server.admin import Admin, Order
from zerotide_runtime.server.routes import Routes
from zerotide_runtime.server.service import Service
from zerotide_runtime.server.wire import HTTPServer, Limits
from zerotide_runtime.settings import Settings, name_of
from zerotide_runtime.startup import Startup

if TYPE_CHECKING:
    from zerotide_runtime.engine.execution import Execution, Succession

log = logging.getLogger(__name__)


class Process:
    """The running server; it is what the engine reports to."""

    def __init__(self, settings: Settings, startup: Startup, listening: socket.socket) -> None:
        self._loop = asyncio.get_running_loop()
        self._listening = listening
        self._settings = settings
        self._startup = startup
        self._ended: asyncio.Future[None] = self._loop.create_future()
        self._tasks: set[asyncio.Task[None]] = set()
        self._loading: Loading | None = None
        self._engine = Engine(self._load, settings.max_batch, self, time.monotonic, self._release)
        self._service = Service(settings, self._engine, startup)
        admin = Admin(self, settings.admin_token)
        limits = Limits(max_body=settings.max_body_bytes)
        self._server = HTTPServer(Routes(self._service, admin), limits)
        self._keepers_server = HTTPServer(admin.trusted, limits)
        self._asleep = 0
        self._changed = asyncio.Condition()

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT; raise the StartError that prevents it."""
        await self._server.start(self._listening)
        if self._settings.admin_socket is not None:
            await self._keepers_server.start(open_socket(Path(self._settings.admin_socket)))
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, self._end, None)
        if self._settings.model_uri:
            self._begin()
        else:
            self._start_task(self._stand_by())
        try:
            await self._ended
        finally:
            for task in self._tasks:
                task.cancel()
            await self._stop()

    def _start_task(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _begin(self) -> None:
        """Start to load the model."""
        self._loading = begin_to_load(self._settings, self._startup)
        self._engine.start()
        self._start_task(self._provide(self._loading))

    async def _stand_by(self) -> None:
        """Import what any model will need, and wait for one."""
        await asyncio.to_thread(import_ahead, self._settings.threads or cpu_threads())
        log.info("standing by for a model")

    async def _provide(self, loading: Loading) -> None:
        """Hand the tokenizer to the waiting requests as soon as it is there."""
        try:
            assets = await asyncio.wrap_future(loading.assets)
            total = await asyncio.to_thread(loading.total_tokens)
            room = await asyncio.to_thread(loading.cache_tokens)
            self._service.identity = await asyncio.to_thread(identity, loading.folder.result())
        except Exception as error:
            self._end(error)
        else:
            self._service.provide(assets, total, room)

    def _load(self) -> tuple[Execution, Succession | None]:
        assert self._loading is not None
        return self._loading.run()

    def _release(self, level: int) -> None:
        assert self._loading is not None
        self._loading.release(level)

    def _end(self, error: BaseException | None) -> None:
        if self._ended.done():
            return
        if error is None:
            self._ended.set_result(None)
        else:
            self._ended.set_exception(error)

    async def _stop(self) -> None:
        """Take no more requests, let the running ones finish, then stop the engine."""
        # A request that still waits for the model is cut off, so that its sender can try another replica.
        grace = self._settings.grace if self._service.ready else 0.0
        self._service.draining = True
        self._server.stop_listening()
        self._keepers_server.stop_listening()
        await self._server.drain(grace)
        self._engine.stop()

    # What the keeper orders.

    @property
    def asleep(self) -> int:
        """The level at which the process sleeps, 0 while it does not."""
        return self._asleep

    async def sleep(self, level: int) -> None:
        """Let running answers finish, then give memory back; requests that come meanwhile wait."""
        if self._loading is None:
            raise NoModel("there is no model to put to sleep yet; order one with POST /admin/load")
        self._service.ready = False
        self._engine.sleep(level)
        async with self._changed:
            await self._changed.wait_for(lambda: self._asleep >= level or self._service.ready)

    async def wake_up(self) -> None:
        """Return when requests are answered again."""
        if self._loading is None:
            raise NoModel("there is no model to wake up yet; order one with POST /admin/load")
        self._engine.wake_up()
        async with self._changed:
            await self._changed.wait_for(lambda: self._service.ready)

    async def adopt(self, order: Order) -> None:
        """Take a model in, and return when it answers; raise SettingsError or ModelTaken."""
        if self._loading is not None:
            raise ModelTaken(f"this process has {self._settings.model_name} already; a second model needs a second one")
        for uri in (order.uri, *(uri for _, uri in order.adapters)):
            parse_location(uri)
        self._settings = self._service.settings = dataclasses.replace(
            self._settings,
            model_uri=order.uri,
            model_name=order.name or name_of(order.uri),
            aliases=order.aliases,
            adapters=order.adapters,
        )
        self._startup.begin_again()
        self._startup.mark("listen")
        self._begin()
        async with self._changed:
            await self._changed.wait_for(lambda: self._service.ready)

    async def _now(self, level: int) -> None:
        """Note that the engine is awake, or asleep at a level."""
        if level == 0 and self._loading is not None:
            self._service.start_answering(self._loading.device)
            # Not before it is true: whoever reads it asks at once.
            log.info("ready after %.0f ms", self._startup.stages()["ready"])
        self._asleep = level
        async with self._changed:
            self._changed.notify_all()

    # What the engine reports, from its own thread.

    def loaded(self) -> None:
        """Tell the world that requests run now."""
        self._startup.mark("ready")
        self._loop.call_soon_threadsafe(lambda: self._start_task(self._now(0)))

    def slept(self, level: int) -> None:
        """Tell the world that the engine sleeps."""
        self._loop.call_soon_threadsafe(lambda: self._start_task(self._now(level)))

    def failed(self, error: BaseException) -> None:
        """End the process: the model cannot be loaded."""
        # Where the loop has ended of the same error, its reason has the last word on stderr, not this thread.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._end, error)

    def succeeded(self) -> None:
        """Note that torch runs the model from now on."""
        self._startup.mark("torch")

    def stepped(self, kind: str, rows: int, tokens: int, seconds: float) -> None:
        """Count a forward pass."""
        if tokens:
            self._startup.mark("first_token")
        joined = kind == "prefill" and tokens > 0 and self._engine.queue_sizes()[1] > 1
        self._loop.call_soon_threadsafe(self._service.telemetry.stepped, kind, rows, seconds, joined)

    def told(self, kind: str, seconds: float) -> None:
        """Note how long it took to make text of a pass's tokens; here, since the loop has enough wake-ups."""
        self._service.telemetry.batch_decoding.observe(seconds, kind)

    def broke(self, kind: str) -> None:
        """Count a failed pass."""
        self._loop.call_soon_threadsafe(self._service.telemetry.broke, kind)
