"""A model of no meaning: the shapes of one with zeros for weights, to have made what a first pass needs."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from zerotide_runtime.engine.config import ModelConfig
from zerotide_runtime.engine.layers import Layer, Weights

T = TypeVar("T")

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


def hollow(config: ModelConfig, zeros: Callable[[tuple[int, ...]], T]) -> Weights[T]:
    """Return the weights of one layer of a model, all zero; `zeros` makes an array of a shape."""
    width = config.head_dim
    rows = (config.heads + 2 * config.kv_heads) * width
    layer = Layer(
        attention_norm=zeros((config.hidden,)),
        qkv=zeros((rows, config.hidden)),
        qkv_bias=zeros((rows,)) if config.qkv_bias else None,
        head_norms=(zeros((width,)), zeros((width,))) if config.head_norms else None,
        output=zeros((config.hidden, config.heads * width)),
        mlp_norm=zeros((config.hidden,)),
        gate_up=zeros((2 * config.intermediate, config.hidden)),
        down=zeros((config.hidden, config.intermediate)),
    )
    embedding = zeros((config.vocabulary, config.hidden))
    return Weights(embedding, [layer], zeros((config.hidden,)), embedding)
