"""The weights of a llama-family model as records of arrays, whichever library the arrays belong to."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Generic, TypeVar

from zerotide_runtime.engine.config import ModelConfig
from zerotide_runtime.errors import InvalidModel, UnsupportedModel
from zerotide_runtime.weights.mapped import MappedTensor, MappedWeights
from zerotide_runtime.weights.order import EMBEDDING, FINAL_NORM, GATE_UP, HEAD, HEAD_NORMS, QKV_BIASES, QKV_WEIGHTS

T = TypeVar("T")
U = TypeVar("U")


@dataclass(frozen=True, slots=True)
class Layer(Generic[T]):
    """One block's weights; query, key and value are one matrix, gate and up another.

    `head_norms` are the norms' weights of queries and of keys.
    """

    attention_norm: T
    qkv: T
    qkv_bias: T | None
    head_norms: tuple[T, T] | None
    output: T
    mlp_norm: T
    gate_up: T
    down: T

    def map(self, change: Callable[[T], U]) -> Layer[U]:
        """Return the same layer in arrays of another library."""
        return Layer(
            attention_norm=change(self.attention_norm),
            qkv=change(self.qkv),
            qkv_bias=None if self.qkv_bias is None else change(self.qkv_bias),
            head_norms=None if self.head_norms is None else (change(self.head_norms[0]), change(self.head_norms[1])),
            output=change(self.output),
            mlp_norm=change(self.mlp_norm),
            gate_up=change(self.gate_up),
            down=change(self.down),
        )


@dataclass(frozen=True, slots=True)
class Weights(Generic[T]):
    """A whole model's weights; a tied head is the embedding itself."""

    embedding: T
    layers: list[Layer[T]]
    norm: T
    head: T

    def map(self, change: Callable[[T], U]) -> Weights[U]:
        """Return the same weights in arrays of another library."""
        embedding = change(self.embedding)
        head = embedding if self.head is self.embedding else change(self.head)
        return Weights(embedding, [layer.map(change) for layer in self.layers], change(self.norm), head)


class Reader(ABC, Generic[T]):
    """Read named tensors from mapped files, without copying where the layout allows it."""

    types: frozenset[str]

    def __init__(self, weights: MappedWeights) -> None:
        self._weights = weights

    def get(self, name: str, shape: Sequence[int]) -> T:
        """Return one tensor; raise InvalidModel where it is missing or has another shape."""
        return self.place(self.view(self._entry(name, shape)))

    def norm(self, name: str, width: int, offset: float) -> T:
        """Return a norm's weight, with what it lacks added."""
        weight: Any = self.get(name, (width,))
        return weight + offset if offset else weight  # type: ignore[no-any-return]

    def stacked(self, names: Sequence[str], rows: Sequence[int], *columns: int) -> T:
        """Return several matrices on top of each other: as one view where the file has them side by side."""
        entries = [self._entry(name, (count, *columns)) for name, count in zip(names, rows, strict=True)]
        first, last = entries[0], entries[-1]
        if all(a.buffer is b.buffer and a.end == b.begin for a, b in pairwise(entries)):
            whole = MappedTensor(first.buffer, first.dtype, (sum(rows), *columns), first.begin, last.end)
            return self.place(self.view(whole))
        return self.place(self.join([self.view(entry) for entry in entries]))

    def _entry(self, name: str, shape: Sequence[int]) -> MappedTensor:
        try:
            entry = self._weights.tensors[name]
        except KeyError:
            raise InvalidModel(f"the weights lack {name}") from None
        if entry.shape != tuple(shape):
            raise InvalidModel(f"{name} is {list(entry.shape)} where config.json implies {list(shape)}")
        if entry.dtype not in self.types:
            raise UnsupportedModel(f"{name} is stored as {entry.dtype}; known: {', '.join(sorted(self.types))}")
        return entry

    @abstractmethod
    def view(self, entry: MappedTensor) -> T:
        """Return an array over the mapped bytes."""

    @abstractmethod
    def join(self, parts: list[T]) -> T:
        """Return arrays on top of each other."""

    @abstractmethod
    def place(self, array: T) -> T:
        """Return an array in the type and on the device that the model runs in."""


def build_weights(config: ModelConfig, reader: Reader[T]) -> Weights[T]:
    """Collect the tensors of a model."""
    width = config.head_dim
    embedding = reader.get(EMBEDDING, (config.vocabulary, config.hidden))
    # A file may hold a head although the config ties it; the config decides.
    head = embedding if config.tied else reader.get(HEAD, (config.vocabulary, config.hidden))
    qkv_rows = (config.heads * width, config.kv_heads * width, config.kv_heads * width)
    layers = []
    for number in range(config.layers):
        prefix = f"model.layers.{number}."
        bias = None
        if config.qkv_bias:
            bias = reader.stacked([prefix + name for name in QKV_BIASES], qkv_rows)
        head_norms = None
        if config.head_norms:
            of_query, of_key = (reader.norm(prefix + name, width, config.norm_offset) for name in HEAD_NORMS)
            head_norms = of_query, of_key
        layers.append(
            Layer(
                attention_norm=reader.norm(prefix + "input_layernorm.weight", config.hidden, config.norm_offset),
                qkv=reader.stacked([prefix + name for name in QKV_WEIGHTS], qkv_rows, config.hidden),
                qkv_bias=bias,
                head_norms=head_norms,
                output=reader.get(prefix + "self_attn.o_proj.weight", (config.hidden, config.heads * width)),
                mlp_norm=reader.norm(prefix + "post_attention_layernorm.weight", config.hidden, config.norm_offset),
                gate_up=reader.stacked([prefix + name for name in GATE_UP], (config.intermediate,) * 2, config.hidden),
                down=reader.get(prefix + "mlp.down_proj.weight", (config.hidden, config.intermediate)),
            )
        )
    return Weights(embedding, layers, reader.norm(FINAL_NORM, config.hidden, config.norm_offset), head)
