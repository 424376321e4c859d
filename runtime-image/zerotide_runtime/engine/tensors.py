"""Turn mapped weight files into torch tensors."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor

from zerotide_runtime.engine.layers import Reader
from zerotide_runtime.weights.mapped import MappedTensor, MappedWeights

DTYPES = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}


class TensorReader(Reader[Tensor]):
    """Read named tensors in the type and on the device that the model runs in."""

    types = frozenset(DTYPES)

    def __init__(self, weights: MappedWeights, dtype: torch.dtype, device: torch.device) -> None:
        super().__init__(weights)
        self._dtype = dtype
        self._device = device

    def view(self, entry: MappedTensor) -> Tensor:
        """Return a tensor over the mapped bytes."""
        dtype = DTYPES[entry.dtype]
        with warnings.catch_warnings():
            # The mapping is read-only, and so is what the engine does with it.
            warnings.filterwarnings("ignore", message="The given buffer is not writable")
            count = (entry.end - entry.begin) // dtype.itemsize
            return torch.frombuffer(entry.buffer, dtype=dtype, count=count, offset=entry.begin).view(entry.shape)

    def join(self, parts: list[Tensor]) -> Tensor:
        """Return tensors on top of each other."""
        return torch.cat(parts)

    def place(self, array: Tensor) -> Tensor:
        """Return a tensor in the type and on the device that the model runs in."""
        return array.to(self._device, self._dtype)
