"""Tensors over weight files that lie in device memory."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from zerotide_runtime.engine.tensors import DTYPES, TensorReader
from zerotide_runtime.gpu.upload import DeviceFile
from zerotide_runtime.weights.mapped import MappedTensor, MappedWeights

ALIGNED = 16  # what products want of an address


class DeviceReader(TensorReader):
    """Read named tensors without a copy, where they are in the type that the model runs in."""

    def __init__(self, weights: MappedWeights, files: Sequence[DeviceFile], dtype: torch.dtype) -> None:
        super().__init__(weights, dtype, torch.device("cuda"))
        flat = [torch.as_tensor(file, device="cuda") for file in files]
        self._files = {
            id(buffer): (bytes_, file.shift) for buffer, bytes_, file in zip(weights.buffers, flat, files, strict=True)
        }

    def view(self, entry: MappedTensor) -> Tensor:
        """Return a tensor over the bytes on the device."""
        flat, shift = self._files[id(entry.buffer)]
        part = flat[shift + entry.begin : shift + entry.end]
        if part.data_ptr() % ALIGNED:
            part = part.clone()
        return part.view(DTYPES[entry.dtype]).view(entry.shape)

    def norm(self, name: str, width: int, offset: float) -> Tensor:
        """Return a norm's weight; with an offset it stays as exact as it is stored, since near one it would lose it."""
        if not offset:
            return self.get(name, (width,))
        return self.view(self._entry(name, (width,))).float() + offset
