"""Have the libraries load what a model's passes need, while its weights are still on their way."""

from __future__ import annotations

import dataclasses

import torch

from zerotide_runtime.engine.config import ModelConfig
from zerotide_runtime.engine.layers import Layer, Weights
from zerotide_runtime.gpu.kernels import Kernels
from zerotide_runtime.gpu.pack import pack
from zerotide_runtime.gpu.runner import GpuRunner, dtype_of_device

TOKENS = 64
PLAIN = ModelConfig(
    hidden=1024,
    intermediate=2048,
    layers=1,
    heads=8,
    kv_heads=2,
    head_dim=128,
    vocabulary=2048,
    context=512,
    norm_epsilon=1e-5,
    rope_theta=10000.0,
    rope_scaling=None,
    tied=True,
    qkv_bias=False,
    dtype="bfloat16",
)


@torch.inference_mode()
def warm_up(config: ModelConfig = PLAIN, kernels: Kernels | None = None) -> None:
    """Run one layer of a model's shapes without its weights; what there is no memory for is not worth it."""
    one = dataclasses.replace(config, layers=1, context=TOKENS)
    try:
        runner = GpuRunner(one, _hollow(one), TOKENS, 1, kernels, record=False)
        runner.model.run(pack([[0] * 16], [0], [0], runner.device, every=False), runner.cache)
        runner.steps.launch([0], [16], [0])
        runner.steps.picks.tolist()
    except torch.cuda.OutOfMemoryError:
        torch.cuda.empty_cache()


def _hollow(config: ModelConfig) -> Weights[torch.Tensor]:
    """Return weights of the right shapes."""
    dtype, width = dtype_of_device(), config.head_dim

    def zeros(*shape: int) -> torch.Tensor:
        return torch.zeros(shape, dtype=dtype, device="cuda")

    rows = (config.heads + 2 * config.kv_heads) * width
    layer = Layer(
        attention_norm=zeros(config.hidden),
        qkv=zeros(rows, config.hidden),
        qkv_bias=zeros(rows) if config.qkv_bias else None,
        head_norms=(zeros(width), zeros(width)) if config.head_norms else None,
        output=zeros(config.hidden, config.heads * width),
        mlp_norm=zeros(config.hidden),
        gate_up=zeros(2 * config.intermediate, config.hidden),
        down=zeros(config.hidden, config.intermediate),
    )
    embedding = zeros(config.vocabulary, config.hidden)
    return Weights(embedding, [layer], zeros(config.hidden), embedding)
