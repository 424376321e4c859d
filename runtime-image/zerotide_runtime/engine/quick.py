"""The first tokens without torch: the same forward pass in numpy, while torch is not imported yet.

Importing torch takes most of a start. A processor multiplies by one vector as fast with numpy, so a lone answer
may as well run here to its end; torch pays off for batches. The cache has the layout of the whole engine's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from zerotide_runtime.engine.adapter import NO_ADAPTERS, Adapted, Adapter, add_deltas
from zerotide_runtime.engine.arrays import ArrayReader, Floats
from zerotide_runtime.engine.config import SILU, ModelConfig
from zerotide_runtime.engine.embedding import Embedding
from zerotide_runtime.engine.execution import OneByOne
from zerotide_runtime.engine.kv import KVCache
from zerotide_runtime.engine.layers import Layer, build_weights
from zerotide_runtime.engine.pages import own_pages
from zerotide_runtime.engine.quick_sampler import choose, understands
from zerotide_runtime.engine.request import Choice, Sequence
from zerotide_runtime.engine.rotary import rotary_frequencies
from zerotide_runtime.weights.mapped import MappedWeights


def quick_can_run(weights: MappedWeights) -> bool:
    """Tell whether a model's weights are as numpy computes them: float32 throughout."""
    return all(tensor.dtype in ArrayReader.types for tensor in weights.tensors.values())


@dataclass(frozen=True, slots=True)
class Span:
    """Consecutive tokens of one sequence: their row of the cache, and their first and last position plus one."""

    row: int
    start: int
    end: int
    adapter: Adapter[Floats] | None = None


class QuickRunner(OneByOne):
    """A model that runs without torch."""

    def __init__(
        self,
        config: ModelConfig,
        weights: MappedWeights,
        cache_tokens: int,
        adapters: Mapping[str, Adapter[Floats]] = NO_ADAPTERS,
    ) -> None:
        self.config = config
        self.adapters = adapters
        self.weights = build_weights(config, ArrayReader(weights))
        self.cache = KVCache(config, cache_tokens, own_pages)
        self._frequencies = rotary_frequencies(config)

    def takes(self, sequence: Sequence) -> bool:
        """Tell whether a sequence asks for nothing that this path does not know."""
        return isinstance(sequence, Embedding) or understands(sequence)

    def prefill_one(self, row: int, sequence: Sequence, limit: int) -> Choice | None:
        """Compute up to `limit` tokens of one sequence; return its next token once none is missing."""
        tokens = sequence.uncached(limit)
        end = sequence.cached + len(tokens)
        span = Span(row, sequence.cached, end, self._adapter(sequence))
        if isinstance(sequence, Embedding):
            return sequence.take(self._normalise(self._states(tokens, [span])))
        (logits,) = self._forward(tokens, [span])
        sequence.cached = end
        return choose(logits, sequence) if end == sequence.length else None

    def decode(self, running: list[Sequence]) -> list[Choice | None]:
        """Compute one token of every running sequence; one that is still in its prompt gets no next token."""
        tokens = [sequence.uncached(1)[0] for sequence in running]
        spans = [
            Span(row, sequence.cached, sequence.cached + 1, self._adapter(sequence))
            for row, sequence in enumerate(running)
        ]
        choices: list[Choice | None] = []
        for sequence, logits in zip(running, self._forward(tokens, spans), strict=True):
            sequence.decoded()
            choices.append(choose(logits, sequence) if sequence.cached == sequence.length else None)
        return choices

    def _adapter(self, sequence: Sequence) -> Adapter[Floats] | None:
        return self.adapters[sequence.adapter] if sequence.adapter else None

    def _forward(self, tokens: list[int], spans: list[Span]) -> Floats:
        """Run the spans' tokens, filling the cache; return the logits of each span's last token."""
        last = np.cumsum([span.end - span.start for span in spans]) - 1
        return np.asarray(self._normalise(self._states(tokens, spans)[last]) @ self.weights.head.T)

    def _normalise(self, states: Floats) -> Floats:
        return normalise(states, self.weights.norm, np.float32(self.config.norm_epsilon))

    def _states(self, tokens: list[int], spans: list[Span]) -> Floats:
        """Run the spans' tokens, filling the cache; return what the last layer makes of each."""
        epsilon, weights = np.float32(self.config.norm_epsilon), self.weights
        positions = np.concatenate([np.arange(span.start, span.end, dtype=np.float32) for span in spans])
        angles = (positions[:, None] * self._frequencies)[:, None]
        turn = np.cos(angles), np.sin(angles)
        adapted = _adapted(spans)
        activate = silu if self.config.activation == SILU else gelu
        hidden = weights.embedding[tokens] * np.float32(self.config.embedding_scale)
        for number, layer in enumerate(weights.layers):
            normed = normalise(hidden, layer.attention_norm, epsilon)
            hidden += self._attend(normed, layer, number, turn, spans, adapted)
            normed = normalise(hidden, layer.mlp_norm, epsilon)
            both = add_deltas(normed @ layer.gate_up.T, normed, number, "gate_up", adapted)
            gate, up = np.split(both, 2, axis=-1)
            gated = activate(gate) * up
            hidden += add_deltas(gated @ layer.down.T, gated, number, "down", adapted)
        return hidden

    def _attend(
        self,
        hidden: Floats,
        layer: Layer[Floats],
        number: int,
        turn: tuple[Floats, Floats],
        spans: list[Span],
        adapted: tuple[Adapted, ...],
    ) -> Floats:
        heads, kv_heads, width = self.config.heads, self.config.kv_heads, self.config.head_dim
        fused = add_deltas(hidden @ layer.qkv.T, hidden, number, "qkv", adapted)
        if layer.qkv_bias is not None:
            fused += layer.qkv_bias
        fused = fused.reshape(-1, heads + 2 * kv_heads, width)
        turned = fused[:, : heads + kv_heads]
        if layer.head_norms is not None:
            epsilon, parts = np.float32(self.config.norm_epsilon), (turned[:, :heads], turned[:, heads:])
            normed = [normalise(part, norm, epsilon) for part, norm in zip(parts, layer.head_norms, strict=True)]
            turned = np.concatenate(normed, axis=1)
        rotated = rotate(turned, *turn)
        query = rotated[:, :heads] * np.float32(width**-0.5)
        mixed = np.empty((len(hidden), heads * width), np.float32)
        at = 0
        for span in spans:
            part = slice(at, at := at + span.end - span.start)
            keys, values = self.cache.keys[number][span.row], self.cache.values[number][span.row]
            keys[:, span.start : span.end] = rotated[part, heads:].swapaxes(0, 1)
            values[:, span.start : span.end] = fused[part, heads + kv_heads :].swapaxes(0, 1)
            mixed[part] = attention(query[part], keys[:, : span.end], values[:, : span.end], span.start)
        return add_deltas(mixed @ layer.output.T, mixed, number, "output", adapted)


def _adapted(spans: list[Span]) -> tuple[Adapted, ...]:
    """Return which of a pass's rows have which adapter."""
    found, at = [], 0
    for span in spans:
        rows = slice(at, at := at + span.end - span.start)
        if span.adapter is not None:
            found.append(Adapted(rows, span.adapter))
    return tuple(found)


def attention(query: Floats, keys: Floats, values: Floats, start: int) -> Floats:
    """Let tokens from position `start` on look at keys up to their own; return [tokens, heads * width].

    `query` is [tokens, heads, width], scaled; `keys` and `values` are [kv_heads, positions, width].
    """
    tokens, heads, width = query.shape
    kv_heads = len(keys)
    grouped = query.reshape(tokens, kv_heads, heads // kv_heads, width).transpose(1, 2, 0, 3)
    scores = grouped.reshape(kv_heads, -1, width) @ keys.swapaxes(1, 2)
    if tokens > 1:
        hidden = np.arange(keys.shape[1]) > np.arange(start, start + tokens)[:, None]
        scores.reshape(kv_heads, -1, tokens, keys.shape[1])[..., hidden] = -np.inf
    scores -= scores.max(axis=-1, keepdims=True)
    np.exp(scores, out=scores)
    scores /= scores.sum(axis=-1, keepdims=True)
    mixed = (scores @ values).reshape(kv_heads, heads // kv_heads, tokens, width)
    return np.asarray(mixed.transpose(2, 0, 1, 3).reshape(tokens, heads * width))


def normalise(values: Floats, weight: Floats, epsilon: np.float32) -> Floats:
    """Scale along the last axis to a mean square of one, then by the weight."""
    squares = np.einsum("...j,...j->...", values, values) / np.float32(values.shape[-1])
    return np.asarray(values * (np.float32(1.0) / np.sqrt(squares + epsilon))[..., None] * weight)


def silu(values: Floats) -> Floats:
    """Return values times their logistic function."""
    with np.errstate(over="ignore"):  # where exp is infinite, the quotient is the zero that it should be
        return np.asarray(values / (np.float32(1.0) + np.exp(-values)))


def gelu(values: Floats) -> Floats:
    """Return the usual approximation of values times their normal distribution function."""
    inner = np.float32(0.7978845608028654) * (values + np.float32(0.044715) * values * values * values)
    return np.asarray(np.float32(0.5) * values * (np.float32(1.0) + np.tanh(inner)))


def rotate(values: Floats, cos: Floats, sin: Floats) -> Floats:
    """Apply rotary embeddings to [tokens, heads, width]; the tables are [tokens, 1, width / 2]."""
    left, right = np.split(values, 2, axis=-1)
    return np.concatenate((left * cos - right * sin, right * cos + left * sin), axis=-1)
