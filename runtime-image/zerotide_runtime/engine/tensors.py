"""Turn mapped weight files into the model's tensors, without copying where the layout allows it."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from zerotide_runtime.engine.config import ModelConfig
from zerotide_runtime.engine.model import Layer, Weights
from zerotide_runtime.errors import InvalidModel, UnsupportedModel
from zerotide_runtime.weights.mapped import MappedTensor, MappedWeights
from zerotide_runtime.weights.order import EMBEDDING, FINAL_NORM, GATE_UP, HEAD, QKV_BIASES, QKV_WEIGHTS

DTYPES = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}


class TensorReader:
    """Read named tensors in the type and on the device that the model runs in."""

    def __init__(self, weights: MappedWeights, dtype: torch.dtype, device: torch.device) -> None:
        self._weights = weights
        self._dtype = dtype
        self._device = device

    def __contains__(self, name: str) -> bool:
        return name in self._weights.tensors

    def get(self, name: str, shape: Sequence[int]) -> Tensor:
        """Return one tensor; raise InvalidModel where it is missing or has another shape."""
        return self._place(self._view(self._entry(name, shape)))

    def stacked(self, names: Sequence[str], rows: Sequence[int], *columns: int) -> Tensor:
        """Return several matrices on top of each other: as one view where the file has them side by side."""
        entries = [self._entry(name, (count, *columns)) for name, count in zip(names, rows, strict=True)]
        first, last = entries[0], entries[-1]
        if all(a.buffer is b.buffer and a.end == b.begin for a, b in pairwise(entries)):
            whole = MappedTensor(first.buffer, first.dtype, (sum(rows), *columns), first.begin, last.end)
            return self._place(self._view(whole))
        return self._place(torch.cat([self._view(entry) for entry in entries]))

    def _entry(self, name: str, shape: Sequence[int]) -> MappedTensor:
        try:
            entry = self._weights.tensors[name]
        except KeyError:
            raise InvalidModel(f"the weights lack {name}") from None
        if entry.shape != tuple(shape):
            raise InvalidModel(f"{name} is {list(entry.shape)} where config.json implies {list(shape)}")
        if entry.dtype not in DTYPES:
            raise UnsupportedModel(f"{name} is stored as {entry.dtype}; known: {', '.join(DTYPES)}")
        return entry

    @staticmethod
    def _view(entry: MappedTensor) -> Tensor:
        dtype = DTYPES[entry.dtype]
        with warnings.catch_warnings():
            # The mapping is read-only, and so is what the engine does with it.
            warnings.filterwarnings("ignore", message="The given buffer is not writable")
            count = (entry.end - entry.begin) // dtype.itemsize
            return torch.frombuffer(entry.buffer, dtype=dtype, count=count, offset=entry.begin).view(entry.shape)

    def _place(self, tensor: Tensor) -> Tensor:
        return tensor.to(self._device, self._dtype)


def build_weights(config: ModelConfig, reader: TensorReader) -> Weights:
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
        layers.append(
            Layer(
                attention_norm=reader.get(prefix + "input_layernorm.weight", (config.hidden,)),
                qkv=reader.stacked([prefix + name for name in QKV_WEIGHTS], qkv_rows, config.hidden),
                qkv_bias=bias,
                output=reader.get(prefix + "self_attn.o_proj.weight", (config.hidden, config.heads * width)),
                mlp_norm=reader.get(prefix + "post_attention_layernorm.weight", (config.hidden,)),
                gate_up=reader.stacked([prefix + name for name in GATE_UP], (config.intermediate,) * 2, config.hidden),
                down=reader.get(prefix + "mlp.down_proj.weight", (config.hidden, config.intermediate)),
            )
        )
    return Weights(embedding, layers, reader.get(FINAL_NORM, (config.hidden,)), head)
