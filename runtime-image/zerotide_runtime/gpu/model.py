"""The llama family's forward pass over packed tokens, on an arena."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from zerotide_runtime.engine.config import ModelConfig
from zerotide_runtime.engine.layers import Weights
from zerotide_runtime.engine.model import LayerLinears, Llama
from zerotide_runtime.gpu.arena import Arena
from zerotide_runtime.gpu.pack import Pack, attention_for


class PackedLlama(Llama):
    """A model whose passes take sequences of any lengths side by side."""

    def __init__(self, config: ModelConfig, weights: Weights[Tensor]) -> None:
        super().__init__(config, weights)
        self.attention = attention_for(weights.embedding.device, weights.embedding.dtype, config.head_dim)

    @torch.inference_mode()
    def run(self, pack: Pack, arena: Arena) -> Tensor:
        """Run a pack, filling the arena; return logits, [sequences or tokens, vocabulary]."""
        hidden = F.embedding(pack.tokens, self.weights.embedding)[None]
        if self.config.embedding_scale != 1.0:
            hidden = hidden * self.config.embedding_scale
        cos, sin = self._cos[pack.positions][None, :, None], self._sin[pack.positions][None, :, None]
        for number, (layer, linears) in enumerate(zip(self.weights.layers, self._linears, strict=True)):
            normed = self._norm(hidden, layer.attention_norm)
            hidden = hidden + self._mix(normed, linears, number, cos, sin, pack, arena)
            gate, up = linears.gate_up(self._norm(hidden, layer.mlp_norm)).chunk(2, dim=-1)
            hidden = hidden + linears.down(self._activate(gate) * up)
        last = hidden[0] if pack.last is None else hidden[0, pack.last]
        return self._head(self._norm(last, self.weights.norm))

    def _mix(
        self, hidden: Tensor, linears: LayerLinears, number: int, cos: Tensor, sin: Tensor, pack: Pack, arena: Arena
    ) -> Tensor:
        heads, kv_heads, width = self.config.heads, self.config.kv_heads, self.config.head_dim
        fused = linears.qkv(hidden).view(1, -1, heads + 2 * kv_heads, width)
        rotated = self._turn(fused, linears, cos, sin)[0]
        keys, values = arena.keys[number], arena.values[number]
        keys.index_copy_(0, pack.places, rotated[:, heads:])
        values.index_copy_(0, pack.places, fused[0, :, heads + kv_heads :])
        mixed = self.attention(rotated[:, :heads], keys, values, pack)
        return linears.output(mixed.reshape(1, -1, heads * width))
