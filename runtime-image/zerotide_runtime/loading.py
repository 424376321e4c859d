"""The steps that lead to a running model, each on a thread of its own."""

from __future__ import annotations

import ctypes
import gc
import os
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from zerotide_runtime.engine.limits import cache_tokens, cpu_threads, memory_limit, room_for_blocks
from zerotide_runtime.errors import UnsupportedModel
from zerotide_runtime.gpu.driver import has_gpu
from zerotide_runtime.locate import HubModel, parse_location, resolve
from zerotide_runtime.settings import Settings
from zerotide_runtime.startup import Startup
from zerotide_runtime.weights.mapped import MappedWeights

if TYPE_CHECKING:
    from zerotide_runtime.assets import Assets
    from zerotide_runtime.engine.adapter import Adapter
    from zerotide_runtime.engine.arrays import Floats
    from zerotide_runtime.engine.execution import Execution, Succession
    from zerotide_runtime.engine.quick import QuickRunner
    from zerotide_runtime.engine.runner import Runner

SWITCH_SECONDS = 0.0002


class Loading:
    """A model on its way into this process, and on its way out when it sleeps."""

    def __init__(self, settings: Settings, startup: Startup) -> None:
        self._settings = settings
        self._startup = startup
        location = parse_location(settings.model_uri)
        self._pool = ThreadPoolExecutor(4, thread_name_prefix="load")
        self.threads = settings.threads or cpu_threads()
        self.device = "cpu"
        self.folder = self._resolve(location)
        self._adapters = {name: self._resolve(parse_location(uri)) for name, uri in settings.adapters}
        self._weights: Future[MappedWeights] | None = self._pool.submit(self._map)
        self._begin_to_read(self._weights)
        self.assets: Future[Assets] = self._pool.submit(self._load_assets)
        self.nbytes: Future[int] = self._pool.submit(self._count, self._weights)

    def _resolve(self, location: Path | HubModel) -> Future[Path]:
        return self._pool.submit(resolve, location, Path(self._settings.cache_dir))

    def _count(self, weights: Future[MappedWeights]) -> int:
        """Return the size of all weights, adapters' included."""
        nbytes = weights.result().nbytes
        if self._adapters:
            from zerotide_runtime.engine.adapter_file import adapter_bytes

            nbytes += sum(adapter_bytes(folder.result()) for folder in self._adapters.values())
        return nbytes

    def _map(self) -> MappedWeights:
        return MappedWeights(self.folder.result())

    def _load_assets(self) -> Assets:
        # Imported here, because the tokenizer and template libraries would delay the opening of the port.
        from zerotide_runtime.assets import load_assets

        return load_assets(self.folder.result())

    def _begin_to_read(self, weights: Future[MappedWeights]) -> None:
        self._pages: Future[None] = self._pool.submit(self._read, weights)

    def _read(self, weights: Future[MappedWeights]) -> None:
        weights.result().populate()
        self._startup.mark("read")

    def _read_adapters(self) -> dict[str, Adapter[Floats]]:
        """Read the adapters; raise the StartError of the first that does not suit the model."""
        if not self._adapters:
            return {}
        from zerotide_runtime.engine.adapter import build_adapter
        from zerotide_runtime.engine.adapter_file import read_adapter

        config = self.assets.result().config
        return {name: build_adapter(read_adapter(found.result()), config) for name, found in self._adapters.items()}

    def cache_tokens(self) -> int:
        """Return the room for keys and values."""
        config = self.assets.result().config
        # Counted for float32, the widest type that the cache is kept in.
        per_token = config.kv_bytes_per_token(4)
        return cache_tokens(memory_limit(), self.nbytes.result(), per_token, self._settings.kv_cache_bytes)

    def total_tokens(self) -> int:
        """Return how long prompt and answer may be together."""
        config = self.assets.result().config
        return min(self._settings.max_total_tokens or config.context, config.context, self.cache_tokens())

    def run(self) -> tuple[Execution, Succession | None]:
        """Put the model together, and say what is to follow; called on the engine's thread, again after each sleep."""
        set_threads(self.threads)
        weights = self._again()
        # What is imported already is used at once.
        if "torch" not in sys.modules:
            from zerotide_runtime.engine.execution import Succession
            from zerotide_runtime.engine.quick import QuickRunner, quick_can_run

            if quick_can_run(weights) and not self.assets.result().config.foreign:
                self._startup.mark("import")
                config, adapters = self.assets.result().config, self._read_adapters()
                quick = QuickRunner(config, weights, self.cache_tokens(), adapters)
                self._startup.mark("device")
                self._pages.result()
                # Else a step waits up to 5 ms after each of its products for an import to let go of the interpreter.
                sys.setswitchinterval(SWITCH_SECONDS)
                return quick, Succession(lambda: self._succeed(quick))
        if self.assets.result().config.foreign:
            return self._foreign(), None
        from zerotide_runtime.engine.runner import Runner

        self._startup.mark("import")
        config = self.assets.result().config
        blocks, adapters = self._room_for_blocks(), self._read_adapters()
        runner = Runner.load(config, weights, self.cache_tokens(), self.threads, blocks, adapters)
        self._startup.mark("device")
        self._pages.result()
        return runner, None

    def _again(self) -> MappedWeights:
        """Return the mapped weights, after a sleep without them anew."""
        if self._weights is None:
            self._weights = self._pool.submit(self._map)
            self._begin_to_read(self._weights)
        return self._weights.result()

    def _foreign(self) -> Execution:
        from zerotide_runtime.engine.foreign import ForeignRunner

        self._refuse_adapters("models that transformers computes")
        self._startup.mark("import")
        runner = ForeignRunner(self.folder.result(), self.cache_tokens(), self.threads)
        self._startup.mark("device")
        self._pages.result()
        self.device = runner.device.type
        return runner

    def _refuse_adapters(self, where: str) -> None:
        if self._adapters:
            raise UnsupportedModel(
                f"adapters are not served with {where}; leave --adapters out, or take another engine"
            )

    def _succeed(self, quick: QuickRunner) -> Runner:
        """Import torch, and put the model together once more over the same arrays."""
        from zerotide_runtime.engine.runner import Runner

        return Runner.beside(quick, self.cache_tokens(), self.threads, self._room_for_blocks())

    def _room_for_blocks(self) -> bool:
        per_token = self.assets.result().config.kv_bytes_per_token(4)
        return room_for_blocks(memory_limit(), self.nbytes.result(), per_token, self._settings.kv_cache_bytes)

    def release(self, level: int) -> None:
        """Give memory back after the execution is gone: at level 2 the weights too, at level 1 they stay mapped."""
        if level >= 2:
            self._weights = None
        gc.collect()  # threads and what they run refer to each other
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # of the GNU library
        if trim is not None:
            trim(0)


def set_threads(threads: int) -> None:
    """Set what the computing libraries read when they are imported."""
    # A waiting thread must not spin: the cores are shared, and the quota counts spinning.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    for library in ("OMP", "OPENBLAS"):
        os.environ.setdefault(f"{library}_NUM_THREADS", str(threads))


def import_ahead(threads: int) -> None:
    """Import what any model will need, and use it once, for a process that waits for one."""
    set_threads(threads)
    import zerotide_runtime.assets  # noqa: F401

    if has_gpu():
        from zerotide_runtime.gpu.loading import import_gpu_ahead

        import_gpu_ahead()
    else:
        from zerotide_runtime.engine.rehearsal import rehearse

        rehearse(threads)
    # The collector would look through all of it again while somebody waits for a first token.
    gc.collect()
    gc.freeze()


def begin_to_load(settings: Settings, startup: Startup) -> Loading:
    """Send a model on its way: to the GPU where there is one."""
    if not has_gpu():
        return Loading(settings, startup)
    from zerotide_runtime.gpu.loading import GpuLoading

    return GpuLoading(settings, startup)
