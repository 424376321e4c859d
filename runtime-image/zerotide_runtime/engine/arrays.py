"""Turn mapped float32 weight files into numpy arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from zerotide_runtime.engine.layers import Reader
from zerotide_runtime.weights.mapped import MappedTensor

Floats = npt.NDArray[np.float32]


class ArrayReader(Reader[Floats]):
    """Read named tensors; all must be float32, which is what a processor computes in."""

    types = frozenset({"F32"})

    def view(self, entry: MappedTensor) -> Floats:
        """Return an array over the mapped bytes."""
        buffer: Any = entry.buffer
        count = (entry.end - entry.begin) // 4
        return np.frombuffer(buffer, np.float32, count, entry.begin).reshape(entry.shape)

    def join(self, parts: list[Floats]) -> Floats:
        """Return arrays on top of each other."""
        return np.concatenate(parts)

    def place(self, array: Floats) -> Floats:
        """Return the array as it is."""
        return array
