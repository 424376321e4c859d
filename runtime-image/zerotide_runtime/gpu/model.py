"""The llama family's forward pass over packed tokens, on an arena."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from zerotide_runtime.engine.config import ModelConfig
from zerotide_runtime.engine.layers import Weights
from zerotide_runtime.engine.linear import Linear
from zerotide_runtime.engine.model import LayerLinears, rotary_tables
from zerotide_runtime.gpu.arena import Arena
from zerotide_runtime.gpu.kernels import Kernels
from zerotide_runtime.gpu.ops import FusedOps, Ops, TorchOps
from zerotide_runtime.gpu.pack import Pack, attention_for


class PackedLlama:
    """A model whose passes take sequences of any lengths side by side."""

    def __init__(self, config: ModelConfig, weights: Weights[Tensor], kernels: Kernels | None = None) -> None:
        self.config = config
        self.weights = weights
        self._linears = [LayerLinears(layer) for layer in weights.layers]
        self._head = Linear(weights.head)
        tables = rotary_tables(config, weights.embedding.device, weights.embedding.dtype)
        fused = kernels if FusedOps.suit(config, weights) else None
        self.ops: Ops = TorchOps(config, *tables) if fused is None else FusedOps(config, *tables, fused)
        self.attention = attention_for(weights.embedding.device, weights.embedding.dtype, config.head_dim)

    @torch.inference_mode()
    def run(self, pack: Pack, arena: Arena) -> Tensor:
        """Run a pack, filling the arena; return logits, [sequences or tokens, vocabulary]."""
        return self._head(self.run_states(pack, arena))

    @torch.inference_mode()
    def run_states(self, pack: Pack, arena: Arena) -> Tensor:
        """Run a pack, filling the arena; return normalised hidden states, [sequences or tokens, hidden]."""
        layers, ops = self.weights.layers, self.ops
        following = [layer.attention_norm for layer in layers[1:]] + [self.weights.norm]
        hidden = F.embedding(pack.tokens, self.weights.embedding)
        if self.config.embedding_scale != 1.0:
            hidden = hidden * self.config.embedding_scale
        hidden, normed = ops.norm(hidden, None, layers[0].attention_norm)
        for number, (layer, linears) in enumerate(zip(layers, self._linears, strict=True)):
            mixed = self._mix(linears, normed, arena.keys[number], arena.values[number], pack)
            hidden, normed = ops.norm(hidden, mixed, layer.mlp_norm)
            changed = linears.down(ops.gate(linears.gate_up(normed)))
            hidden, normed = ops.norm(hidden, changed, following[number])
        return normed if pack.last is None else normed[pack.last]

    def _mix(self, linears: LayerLinears, normed: Tensor, keys: Tensor, values: Tensor, pack: Pack) -> Tensor:
        config = self.config
        fused = linears.qkv(normed).view(-1, config.heads + 2 * config.kv_heads, config.head_dim)
        query = self.ops.turn(fused, linears.head_norms, pack, keys, values)
        return linears.output(self.attention(query, keys, values, pack).reshape(len(fused), -1))
