"""What lies between the products of a pass: in torch's own operations anywhere, or fused on a GPU.

Small kernels one after the other take as long as a third of the products; fused, an eighth.
"""

from __future__ import annotations

import ctypes
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from zerotide_runtime.engine.config import SILU, ModelConfig
from zerotide_runtime.engine.layers import Weights
from zerotide_runtime.engine.model import rotate
from zerotide_runtime.gpu.kernels import Argument, Kernels
from zerotide_runtime.gpu.pack import Pack

EIGHT = 8  # numbers that a kernel's thread takes at once
MOST_THREADS = 1024
WARP, WARPS = 32, 8

HeadNorms = tuple[Tensor, Tensor] | None
Given = Tensor | int | float | ctypes.c_longlong | None


class Ops(Protocol):
    """Hidden states are [tokens, hidden]; `delta` is what a block adds to them."""

    def norm(self, hidden: Tensor, delta: Tensor | None, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Return hidden + delta, and that normalised; hidden may be changed in place."""
        ...

    def turn(self, fused: Tensor, norms: HeadNorms, pack: Pack, keys: Tensor, values: Tensor) -> Tensor:
        """Return the rotated queries of [tokens, heads + 2 * kv_heads, width]; store keys and values."""
        ...

    def gate(self, both: Tensor) -> Tensor:
        """Return the activated gate times up, which lie side by side."""
        ...


class TorchOps:
    """Torch's own operations: in any type, on any device."""

    def __init__(self, config: ModelConfig, cosines: Tensor, sines: Tensor) -> None:
        self._config = config
        self._cosines, self._sines = cosines, sines

    def norm(self, hidden: Tensor, delta: Tensor | None, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Return hidden + delta, and that normalised."""
        hidden = hidden if delta is None else hidden + delta
        return hidden, self._normalised(hidden, weight)

    def _normalised(self, values: Tensor, weight: Tensor) -> Tensor:
        # A norm's weight may be kept wider than what it scales.
        return F.rms_norm(values.to(weight.dtype), weight.shape, weight, self._config.norm_epsilon).to(values.dtype)

    def turn(self, fused: Tensor, norms: HeadNorms, pack: Pack, keys: Tensor, values: Tensor) -> Tensor:
        """Return the rotated queries; store keys and values."""
        heads, kv_heads = self._config.heads, self._config.kv_heads
        turned = fused[:, : heads + kv_heads]
        if norms is not None:
            parts = (turned[:, :heads], turned[:, heads:])
            turned = torch.cat([self._normalised(a, b) for a, b in zip(parts, norms, strict=True)], dim=1)
        rotated = rotate(turned, self._cosines[pack.positions, None], self._sines[pack.positions, None])
        keys.index_copy_(0, pack.places, rotated[:, heads:])
        values.index_copy_(0, pack.places, fused[:, heads + kv_heads :])
        return rotated[:, :heads]

    def gate(self, both: Tensor) -> Tensor:
        """Return the activated gate times up."""
        gate, up = both.chunk(2, dim=-1)
        return (F.silu(gate) if self._config.activation == SILU else F.gelu(gate, approximate="tanh")) * up


class FusedOps:
    """One kernel each, in bfloat16 on a GPU."""

    def __init__(self, config: ModelConfig, cosines: Tensor, sines: Tensor, kernels: Kernels) -> None:
        self._config = config
        self._cosines, self._sines = cosines, sines
        self._kernels = kernels

    @staticmethod
    def suit(config: ModelConfig, weights: Weights[Tensor]) -> bool:
        """Tell whether a model is as the kernels expect it."""
        norms = [weights.norm, *(layer.attention_norm for layer in weights.layers)]
        even = config.hidden % EIGHT == config.intermediate % EIGHT == config.head_dim % EIGHT == 0
        halves = all(weight.dtype == torch.bfloat16 for weight in (weights.embedding, *norms))
        return weights.embedding.is_cuda and even and halves

    def _launch(
        self, name: str, blocks: int, threads: int, *arguments: Tensor | int | float | ctypes.c_longlong | None
    ) -> None:
        stream = torch.cuda.current_stream().cuda_stream
        self._kernels.launch(name, blocks, threads, stream, *map(_argument, arguments))

    def norm(self, hidden: Tensor, delta: Tensor | None, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Add to hidden in place; return it, and what it is normalised."""
        rows, width = hidden.shape
        eights, out = width // EIGHT, torch.empty_like(hidden)
        threads = min(MOST_THREADS, -(-eights // WARP) * WARP)
        self._launch("add_norm", rows, threads, hidden, delta, weight, out, eights, self._config.norm_epsilon)
        return hidden, out

    def turn(self, fused: Tensor, norms: HeadNorms, pack: Pack, keys: Tensor, values: Tensor) -> Tensor:
        """Return the rotated queries; store keys and values."""
        config, tokens = self._config, len(fused)
        query = fused.new_empty((tokens, config.heads, config.head_dim))
        self._launch(
            *("turn", -(-tokens * fused.shape[1] // WARPS), WARP * WARPS),
            *(fused, self._cosines, self._sines, pack.positions, pack.places, keys, values, query),
            *(norms or (None, None)),
            *(tokens, config.heads, config.kv_heads, config.head_dim, config.norm_epsilon),
        )
        return query

    def gate(self, both: Tensor) -> Tensor:
        """Return the activated gate times up."""
        rows, eights = len(both), both.shape[1] // 2 // EIGHT
        out = both.new_empty((rows, both.shape[1] // 2))
        threads = WARP * WARPS
        total = rows * eights
        gelu = int(self._config.activation != SILU)
        self._launch("gated", -(-total // threads), threads, both, out, ctypes.c_longlong(total), eights, gelu)
        return out


def _argument(value: Given) -> Argument:
    if value is None or isinstance(value, Tensor):
        return ctypes.c_void_p(None if value is None else value.data_ptr())
    if isinstance(value, int):
        return ctypes.c_int(value)
    return ctypes.c_float(value) if isinstance(value, float) else value
