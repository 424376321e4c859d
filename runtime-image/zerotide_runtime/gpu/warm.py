"""Have the libraries load what a model's passes need, while its weights are still on their way."""

from __future__ import annotations

import dataclasses

import torch

from zerotide_runtime.engine.config import ModelConfig
from zerotide_runtime.engine.hollow import PLAIN, hollow
from zerotide_runtime.gpu.kernels import Kernels
from zerotide_runtime.gpu.pack import pack
from zerotide_runtime.gpu.runner import GpuRunner, dtype_of_device

TOKENS = 64


@torch.inference_mode()
def warm_up(config: ModelConfig = PLAIN, kernels: Kernels | None = None) -> None:
    """Run one layer of a model's shapes without its weights; what there is no memory for is not worth it."""
    one = dataclasses.replace(config, layers=1, context=TOKENS)
    try:
        weights = hollow(one, lambda shape: torch.zeros(shape, dtype=dtype_of_device(), device="cuda"))
        runner = GpuRunner(one, weights, TOKENS, 1, kernels, record=False)
        runner.model.run(pack([[0] * 16], [0], [0], runner.device, every=False), runner.cache)
        runner.steps.launch([0], [16], [0])
        runner.steps.picks.tolist()
    except torch.cuda.OutOfMemoryError:
        torch.cuda.empty_cache()
