"""The steps that lead to a model on a GPU: its weights are copied there while torch is imported."""

from __future__ import annotations

import gc
import json
import logging
import math
from concurrent.futures import Future
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from zerotide_runtime.engine.config import MODEL_TYPES
from zerotide_runtime.errors import DeviceFailed
from zerotide_runtime.gpu.driver import Driver
from zerotide_runtime.gpu.kernels import Kernels
from zerotide_runtime.gpu.limits import gpu_cache_tokens
from zerotide_runtime.gpu.upload import DeviceFile, upload
from zerotide_runtime.loading import Loading, set_threads
from zerotide_runtime.settings import Settings
from zerotide_runtime.startup import Startup
from zerotide_runtime.weights.mapped import MappedWeights

if TYPE_CHECKING:
    from zerotide_runtime.engine.execution import Execution, Succession

log = logging.getLogger(__name__)

FEWEST_THREADS = 2  # they wait more than they work


class Gpu(NamedTuple):
    """A device, the memory that was free before the model came, and the size of what it computes with."""

    driver: Driver
    free: int
    item_size: int


@cache
def device() -> Driver:
    """Return the device, with its context: made once in a process."""
    return Driver()


@cache
def kernels(driver: Driver) -> Kernels | None:
    """Return the device's kernels, made once in a process; without a compiler torch's own operations have to do."""
    try:
        return Kernels(driver) if driver.halves else None
    except DeviceFailed as error:
        log.warning("no fused kernels, so steps take longer: %s", error)
        return None


def open_gpu() -> Gpu:
    """Return the device as it is now."""
    return Gpu(device(), device().free_bytes, 2 if device().halves else 4)


class GpuLoading(Loading):
    """A model on its way into a GPU's memory."""

    def __init__(self, settings: Settings, startup: Startup) -> None:
        self._files: Future[list[DeviceFile]] | None = None
        self._warm = False
        super().__init__(settings, startup)
        assert self._weights is not None
        self._kernels: Future[Kernels | None] = self._pool.submit(lambda: kernels(self._gpu.result().driver))
        self._elements: Future[int] = self._pool.submit(_elements, self._weights)
        self.device = "cuda"

    def _begin_to_read(self, weights: Future[MappedWeights]) -> None:
        if not hasattr(self, "_gpu"):
            self._gpu: Future[Gpu] = self._pool.submit(open_gpu)
        self._files = self._pool.submit(self._upload, weights)
        self._pages = self._pool.submit(lambda: None)

    def _upload(self, weights: Future[MappedWeights]) -> list[DeviceFile]:
        files: list[DeviceFile] = []
        if computed_here(self.folder.result()):
            files = upload(self._gpu.result().driver, weights.result().files, max(FEWEST_THREADS, self.threads))
        self._startup.mark("read")
        return files

    def cache_tokens(self) -> int:
        """Return the room for keys and values on the device."""
        config, gpu = self.assets.result().config, self._gpu.result()
        if config.foreign:
            return super().cache_tokens()
        return gpu_cache_tokens(
            free=gpu.free,
            weights=self._elements.result() * gpu.item_size,
            per_token=config.kv_bytes_per_token(gpu.item_size),
            layers=config.layers,
            vocabulary=config.vocabulary,
            rows=self._settings.max_batch,
            wanted=self._settings.kv_cache_bytes,
        )

    def run(self) -> tuple[Execution, Succession | None]:
        """Put the model together; called on the engine's thread, again after each sleep."""
        set_threads(self.threads)
        weights = self._again()
        if self._files is None:
            assert self._weights is not None
            self._begin_to_read(self._weights)
        # First of all, since nothing takes as long.
        import torch

        from zerotide_runtime.gpu.runner import GpuRunner
        from zerotide_runtime.gpu.warm import warm_up

        config = self.assets.result().config
        if config.foreign:
            return self._foreign(), None
        self._refuse_adapters("a GPU by this engine yet")
        self._startup.mark("import")
        torch.set_num_threads(self.threads)
        fused = self._kernels.result()
        if not self._warm:
            warm_up(config, fused)
            self._warm = True
        assert self._files is not None
        files, self._files = self._files.result(), None  # the tensors alone hold them from now on
        runner = GpuRunner.load(config, weights, files, self.cache_tokens(), self._settings.max_batch, fused)
        self._startup.mark("device")
        return runner, None

    def release(self, level: int) -> None:
        """Give the device's memory back: at level 1 the weights stay in the host's."""
        self._files = None
        gc.collect()
        import torch

        torch.cuda.empty_cache()
        super().release(level)


def computed_here(folder: Path) -> bool:
    """Tell whether this engine computes the model in a folder; a folder without a config is somebody else's error."""
    try:
        return json.loads((folder / "config.json").read_text()).get("model_type") in MODEL_TYPES
    except (OSError, ValueError, AttributeError):
        return False


def _elements(weights: Future[MappedWeights]) -> int:
    return sum(math.prod(tensor.shape) for tensor in weights.result().tensors.values())


def import_gpu_ahead() -> None:
    """Import what any model will need, and have the device ready for it."""
    from zerotide_runtime.gpu.warm import warm_up

    warm_up(kernels=kernels(device()))
