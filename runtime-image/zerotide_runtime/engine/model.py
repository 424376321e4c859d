"""The llama family's forward pass, over weights that are views into the mapped file.

There are no modules and no initialisation: a layer is a record of its tensors.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from zerotide_runtime.engine.adapter import Adapted, add_deltas
from zerotide_runtime.engine.config import SILU, ModelConfig
from zerotide_runtime.engine.kv import KVCache
from zerotide_runtime.engine.layers import Layer, Weights
from zerotide_runtime.engine.linear import Linear
from zerotide_runtime.engine.rotary import rotary_frequencies


@dataclass(frozen=True, slots=True)
class Step:
    """Where the tokens of one forward pass go: the cache rows `first`…`first + batch`, and their positions.

    `positions` is [batch, tokens]; `keys` the number of cached positions to look at, the new ones included; `adapted`
    the rows that have adapters.
    """

    first: int
    positions: Tensor
    keys: int
    adapted: tuple[Adapted, ...] = ()


class LayerLinears:
    """One block's products."""

    def __init__(self, layer: Layer[Tensor]) -> None:
        self.qkv = Linear(layer.qkv, layer.qkv_bias)
        self.output = Linear(layer.output)
        self.gate_up = Linear(layer.gate_up)
        self.down = Linear(layer.down)
        self.head_norms = layer.head_norms


class Llama:
    """A model ready to run."""

    def __init__(self, config: ModelConfig, weights: Weights[Tensor]) -> None:
        self.config = config
        self.weights = weights
        self._linears = [LayerLinears(layer) for layer in weights.layers]
        self._head = Linear(weights.head)
        self._cos, self._sin = rotary_tables(config, weights.embedding.device, weights.embedding.dtype)

    @torch.inference_mode()
    def forward(self, tokens: Tensor, step: Step, cache: KVCache, *, every: bool = False) -> Tensor:
        """Run [batch, tokens] ids, filling the cache; return float32 logits of the last token, [batch, vocabulary].

        With `every`, of all tokens: [batch, tokens, vocabulary].
        """
        hidden = self._run(tokens, step, cache)
        return self._head(self._norm(hidden if every else hidden[:, -1], self.weights.norm)).float()

    @torch.inference_mode()
    def states(self, tokens: Tensor, step: Step, cache: KVCache) -> Tensor:
        """Run [batch, tokens] ids, filling the cache; return float32 hidden states, [batch, tokens, hidden]."""
        return self._norm(self._run(tokens, step, cache), self.weights.norm).float()

    def _run(self, tokens: Tensor, step: Step, cache: KVCache) -> Tensor:
        hidden = F.embedding(tokens, self.weights.embedding)
        if self.config.embedding_scale != 1.0:
            hidden = hidden * self.config.embedding_scale
        cos, sin = self._cos[step.positions].unsqueeze(2), self._sin[step.positions].unsqueeze(2)
        mask = self._mask(step)
        for number, (layer, linears) in enumerate(zip(self.weights.layers, self._linears, strict=True)):
            normed = self._norm(hidden, layer.attention_norm)
            hidden = hidden + self._attend(normed, linears, number, cos, sin, mask, step, cache)
            normed = self._norm(hidden, layer.mlp_norm)
            both = add_deltas(linears.gate_up(normed), normed, number, "gate_up", step.adapted)
            gate, up = both.chunk(2, dim=-1)
            gated = self._activate(gate) * up
            hidden = hidden + add_deltas(linears.down(gated), gated, number, "down", step.adapted)
        return hidden

    def linears(self) -> list[Linear]:
        """Return all products, in the order of a pass."""
        blocks = [[linears.qkv, linears.output, linears.gate_up, linears.down] for linears in self._linears]
        return [*itertools.chain(*blocks), self._head]

    def _norm(self, values: Tensor, weight: Tensor) -> Tensor:
        if weight.dtype != values.dtype:
            return F.rms_norm(values.to(weight.dtype), weight.shape, weight, self.config.norm_epsilon).to(values.dtype)
        return F.rms_norm(values, (values.shape[-1],), weight, self.config.norm_epsilon)

    def _activate(self, gate: Tensor) -> Tensor:
        return F.silu(gate) if self.config.activation == SILU else F.gelu(gate, approximate="tanh")

    def _turn(self, fused: Tensor, linears: LayerLinears, cos: Tensor, sin: Tensor) -> Tensor:
        """Return queries and keys, normalised where the model does so, and rotated to their positions."""
        heads, kv_heads = self.config.heads, self.config.kv_heads
        if linears.head_norms is None:
            return rotate(fused[:, :, : heads + kv_heads], cos, sin)
        of_query, of_key = linears.head_norms
        query = self._norm(fused[:, :, :heads], of_query)
        key = self._norm(fused[:, :, heads : heads + kv_heads], of_key)
        return rotate(torch.cat((query, key), dim=2), cos, sin)

    def _mask(self, step: Step) -> Tensor | None:
        """Return what to add to the attention scores, [batch, 1, group * tokens, keys]; None where all is visible."""
        batch, tokens = step.positions.shape
        if batch == tokens == 1:
            return None
        seen = torch.arange(step.keys, device=step.positions.device) <= step.positions[..., None]
        mask = torch.zeros(seen.shape, dtype=self.weights.embedding.dtype, device=seen.device)
        mask.masked_fill_(~seen, -math.inf)
        return mask.repeat(1, self.config.heads // self.config.kv_heads, 1).unsqueeze(1)

    def _attend(
        self,
        hidden: Tensor,
        linears: LayerLinears,
        number: int,
        cos: Tensor,
        sin: Tensor,
        mask: Tensor | None,
        step: Step,
        cache: KVCache,
    ) -> Tensor:
        heads, kv_heads, width = self.config.heads, self.config.kv_heads, self.config.head_dim
        batch, tokens, _ = hidden.shape
        fused = add_deltas(linears.qkv(hidden), hidden, number, "qkv", step.adapted)
        fused = fused.view(batch, tokens, heads + 2 * kv_heads, width)
        rotated = self._turn(fused, linears, cos, sin)
        rows = slice(step.first, step.first + batch)
        keys, values = cache.keys[number][rows], cache.values[number][rows]
        index = torch.arange(batch, device=hidden.device)[:, None]
        keys[index, :, step.positions] = rotated[:, :, heads:]
        values[index, :, step.positions] = fused[:, :, heads + kv_heads :]
        # The query heads that share a key head are laid out as more query positions of that head, which
        # spares repeating the keys: [batch, kv_heads, group * tokens, width].
        query = rotated[:, :, :heads].reshape(batch, tokens, kv_heads, heads // kv_heads, width)
        query = query.permute(0, 2, 3, 1, 4).reshape(batch, kv_heads, -1, width)
        mixed = F.scaled_dot_product_attention(
            query, keys[:, :, : step.keys], values[:, :, : step.keys], attn_mask=mask
        )
        mixed = mixed.view(batch, kv_heads, heads // kv_heads, tokens, width).permute(0, 3, 1, 2, 4)
        mixed = mixed.reshape(batch, tokens, heads * width)
        return add_deltas(linears.output(mixed), mixed, number, "output", step.adapted)


def rotate(values: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Apply rotary embeddings to [batch, tokens, heads, width]; the tables are [batch, tokens, 1, width / 2]."""
    left, right = values.chunk(2, dim=-1)
    return torch.cat((left * cos - right * sin, right * cos + left * sin), dim=-1)


def rotary_tables(config: ModelConfig, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Return cosines and sines, [context, head_dim / 2]."""
    frequencies = torch.from_numpy(rotary_frequencies(config)).to(device)
    angles = torch.outer(torch.arange(config.context, dtype=torch.float32, device=device), frequencies)
    return angles.cos().to(dtype), angles.sin().to(dtype)
