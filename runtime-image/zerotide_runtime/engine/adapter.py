"""LoRA adapters as the engine computes with them: what each adds to a layer's products, beside the model's weights.

The weights stay what they are, so sequences with different adapters, or with none, run in one batch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Generic, Literal, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from zerotide_runtime.engine.adapter_file import LowRank
from zerotide_runtime.engine.config import ModelConfig
from zerotide_runtime.errors import InvalidModel

T = TypeVar("T")
U = TypeVar("U")
Floats = npt.NDArray[np.float32]

Product = Literal["qkv", "output", "gate_up", "down"]
# Which projections lie on top of each other in a product's matrix.
PARTS: Mapping[Product, tuple[str, ...]] = {
    "qkv": ("q_proj", "k_proj", "v_proj"),
    "output": ("o_proj",),
    "gate_up": ("gate_proj", "up_proj"),
    "down": ("down_proj",),
}


@dataclass(frozen=True, slots=True)
class Delta(Generic[T]):
    """What is added to one product: `up` [outputs, rank] times `down` [rank, inputs] times the input, scaled."""

    down: T
    up: T


@dataclass(frozen=True, slots=True)
class Adapter(Generic[T]):
    """Of each layer the products that are changed."""

    layers: list[dict[Product, Delta[T]]]

    def map(self, change: Callable[[T], U]) -> Adapter[U]:
        """Return the same adapter in arrays of another library."""
        return Adapter(
            [
                {name: Delta(change(delta.down), change(delta.up)) for name, delta in layer.items()}
                for layer in self.layers
            ]
        )


NO_ADAPTERS: Mapping[str, Adapter[Any]] = MappingProxyType({})


class Adapted(NamedTuple):
    """Rows of a pass that have one adapter: a slice of them, or their numbers as that library has them."""

    rows: Any
    adapter: Adapter[Any]


def build_adapter(parts: Mapping[tuple[int, str], LowRank], config: ModelConfig) -> Adapter[Floats]:
    """Fit an adapter's parts, by layer and projection, to a model; raise InvalidModel where they are of another."""
    beyond = max((number for number, _ in parts), default=0)
    if beyond >= config.layers:
        raise InvalidModel(f"the adapter changes layer {beyond}, but the model has {config.layers}: it is of another")
    layers: list[dict[Product, Delta[Floats]]] = []
    for number in range(config.layers):
        layer: dict[Product, Delta[Floats]] = {}
        for product, names in PARTS.items():
            found = {name: parts[number, name] for name in names if (number, name) in parts}
            if found:
                layer[product] = _stack(number, found, names, config)
        layers.append(layer)
    return Adapter(layers)


def _stack(number: int, found: Mapping[str, LowRank], names: tuple[str, ...], config: ModelConfig) -> Delta[Floats]:
    """Return one delta of projections side by side: each takes its own share of the ranks to its own rows."""
    shapes = _shapes(config)
    for name, part in found.items():
        outputs, inputs = shapes[name]
        if part.down.shape[1] != inputs or part.up.shape[0] != outputs:
            given = f"{part.up.shape[0]} by {part.down.shape[1]}"
            raise InvalidModel(
                f"the adapter's {name} of layer {number} is made for a matrix of {given}, the model's is {outputs} by "
                f"{inputs}: it is of another model"
            )
    up = np.zeros((sum(shapes[name][0] for name in names), sum(len(part.down) for part in found.values())), np.float32)
    row = rank = 0
    for name in names:
        if name in found:
            part = found[name]
            up[row : row + len(part.up), rank : rank + len(part.down)] = part.up * np.float32(part.scale)
            rank += len(part.down)
        row += shapes[name][0]
    return Delta(np.concatenate([part.down for part in found.values()]), up)


def _shapes(config: ModelConfig) -> dict[str, tuple[int, int]]:
    """Return outputs and inputs of each projection."""
    query, keys = config.heads * config.head_dim, config.kv_heads * config.head_dim
    return {
        "q_proj": (query, config.hidden),
        "k_proj": (keys, config.hidden),
        "v_proj": (keys, config.hidden),
        "o_proj": (config.hidden, query),
        "gate_proj": (config.intermediate, config.hidden),
        "up_proj": (config.intermediate, config.hidden),
        "down_proj": (config.hidden, config.intermediate),
    }


def add_deltas(result: T, values: T, layer: int, product: Product, adapted: tuple[Adapted, ...]) -> T:
    """Add to a product, in place, what the adapters of its rows make of the same values: numpy's arrays or torch's."""
    changed: Any = result
    given: Any = values
    for rows, adapter in adapted:
        delta = adapter.layers[layer].get(product)
        if delta is not None:
            changed[rows] += given[rows] @ delta.down.T @ delta.up.T
    return result
