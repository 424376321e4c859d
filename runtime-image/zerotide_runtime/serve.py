"""One serving process from start to end.

The order of the start is what makes it fast: open the port, then fetch pages of the weights, read the tokenizer
and import numpy side by side. Requests that come meanwhile wait, and are the first to run. torch is imported when
it pays: for a second sequence beside the first, or while nobody asks for anything; at once on a machine with a GPU.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from zerotide_runtime.engine.engine import Engine
from zerotide_runtime.engine.limits import cache_tokens, cpu_threads, memory_limit
from zerotide_runtime.locate import parse_location, resolve
from zerotide_runtime.server.routes import Routes
from zerotide_runtime.server.service import Service
from zerotide_runtime.server.wire import HTTPServer, Limits
from zerotide_runtime.settings import Settings
from zerotide_runtime.startup import Startup
from zerotide_runtime.weights.mapped import MappedWeights

if TYPE_CHECKING:
    from zerotide_runtime.assets import Assets
    from zerotide_runtime.engine.execution import Execution, Succession
    from zerotide_runtime.engine.quick import QuickRunner
    from zerotide_runtime.engine.runner import Runner

log = logging.getLogger(__name__)

GPU_DEVICES = ("/dev/nvidiactl", "/dev/dxg")  # of Linux, and of Linux inside Windows
SWITCH_SECONDS = 0.0002


class Loading:
    """The steps that lead to a running model, each on a thread of its own."""

    def __init__(self, settings: Settings, startup: Startup) -> None:
        self._settings = settings
        self._startup = startup
        location = parse_location(settings.model_uri)
        pool = ThreadPoolExecutor(4, thread_name_prefix="load")
        self.threads = settings.threads or cpu_threads()
        self.device = "cpu"
        self.folder: Future[Path] = pool.submit(resolve, location, Path(settings.cache_dir))
        self.weights: Future[MappedWeights] = pool.submit(lambda: MappedWeights(self.folder.result()))
        self.pages: Future[None] = pool.submit(self._read)
        self.assets: Future[Assets] = pool.submit(self._load_assets)

    def _load_assets(self) -> Assets:
        # Imported here, because the tokenizer and template libraries would delay the opening of the port.
        from zerotide_runtime.assets import load_assets

        return load_assets(self.folder.result())

    def _read(self) -> None:
        self.weights.result().populate()
        self._startup.mark("read")

    def cache_tokens(self) -> int:
        """Return the room for keys and values."""
        config, nbytes = self.assets.result().config, self.weights.result().nbytes
        # Counted for float32, the widest type that the cache is kept in.
        return cache_tokens(memory_limit(), nbytes, config.kv_bytes_per_token(4), self._settings.kv_cache_bytes)

    def total_tokens(self) -> int:
        """Return how long prompt and answer may be together."""
        config = self.assets.result().config
        return min(self._settings.max_total_tokens or config.context, config.context, self.cache_tokens())

    def run(self) -> tuple[Execution, Succession | None]:
        """Put the model together, and say what is to follow; called on the engine's thread."""
        # A waiting thread must not spin: the cores are shared, and the quota counts spinning.
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        for library in ("OMP", "OPENBLAS"):
            os.environ.setdefault(f"{library}_NUM_THREADS", str(self.threads))
        if not any(Path(device).exists() for device in GPU_DEVICES):
            from zerotide_runtime.engine.execution import Succession
            from zerotide_runtime.engine.quick import QuickRunner, quick_can_run

            if quick_can_run(self.weights.result()):
                self._startup.mark("import")
                quick = QuickRunner(self.assets.result().config, self.weights.result(), self.cache_tokens())
                self._startup.mark("device")
                self.pages.result()
                # Else a step waits up to 5 ms after each of its products for an import to let go of the interpreter.
                sys.setswitchinterval(SWITCH_SECONDS)
                return quick, Succession(lambda: self._succeed(quick))
        from zerotide_runtime.engine.runner import Runner

        self._startup.mark("import")
        runner = Runner.load(self.assets.result().config, self.weights.result(), self.cache_tokens(), self.threads)
        self._startup.mark("device")
        self.pages.result()
        self.device = runner.device.type
        return runner, None

    def _succeed(self, quick: QuickRunner) -> Runner:
        """Import torch, and put the model together once more over the same arrays."""
        from zerotide_runtime.engine.runner import Runner

        return Runner.beside(quick, self.cache_tokens(), self.threads)


class Process:
    """The running server; it is what the engine reports to."""

    def __init__(self, settings: Settings, startup: Startup, listening: socket.socket) -> None:
        self._loop = asyncio.get_running_loop()
        self._listening = listening
        self._settings = settings
        self._startup = startup
        self._ended: asyncio.Future[None] = self._loop.create_future()
        self._loading = Loading(settings, startup)
        self._engine = Engine(self._loading.run, settings.max_batch, self, time.monotonic)
        self._service = Service(settings, self._engine, startup)
        self._server = HTTPServer(Routes(self._service), Limits(max_body=settings.max_body_bytes))

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT; raise the StartError that prevents it."""
        await self._server.start(self._listening)
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, self._end, None)
        self._engine.start()
        providing = self._loop.create_task(self._provide())
        try:
            await self._ended
        finally:
            providing.cancel()
            await self._stop()

    async def _provide(self) -> None:
        """Hand the tokenizer to the waiting requests as soon as it is there, well before torch is."""
        try:
            assets = await asyncio.wrap_future(self._loading.assets)
            total = await asyncio.to_thread(self._loading.total_tokens)
        except Exception as error:
            self._end(error)
        else:
            self._service.provide(assets, total)

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
        await self._server.drain(grace)
        self._engine.stop()

    # What the engine reports, from its own thread.

    def loaded(self) -> None:
        """Tell the world that requests run now."""
        self._startup.mark("ready")
        log.info("ready after %.0f ms", self._startup.stages()["ready"])
        self._loop.call_soon_threadsafe(self._service.start_answering, self._loading.device)

    def failed(self, error: BaseException) -> None:
        """End the process: the model cannot be loaded."""
        self._loop.call_soon_threadsafe(self._end, error)

    def succeeded(self) -> None:
        """Note that torch runs the model from now on."""
        self._startup.mark("torch")

    def stepped(self, kind: str, rows: int, tokens: int, seconds: float) -> None:
        """Count a forward pass."""
        if tokens:
            self._startup.mark("first_token")
        self._loop.call_soon_threadsafe(self._service.telemetry.stepped, kind, rows, seconds)
