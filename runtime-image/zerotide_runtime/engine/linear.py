"""Products with a weight matrix, laid out anew for batches once a process has some.

A matrix as it lies in the file is read once for a vector, as fast as memory gives it. For a few vectors at once the
library copies it into blocks first, at every step, and that takes as long as the product; so it is done once, for good.
"""

from __future__ import annotations

import platform

import torch
from torch import Tensor
from torch.nn import functional as F

# For fewer rows the library goes through the matrix as it is.
BLOCKS_PAY_FROM = 4


def blocks_are_known(weight: Tensor) -> bool:
    """Tell whether this machine's library has a layout of its own for such a matrix."""
    usual = weight.device.type == "cpu" and weight.dtype == torch.float32
    return usual and platform.machine() in ("x86_64", "AMD64") and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]


class Linear:
    """A weight matrix, [outputs, inputs], and perhaps a bias."""

    __slots__ = ("_bias", "_blocks", "weight")

    def __init__(self, weight: Tensor, bias: Tensor | None = None) -> None:
        self.weight = weight
        self._bias = bias
        self._blocks: Tensor | None = None

    def __call__(self, values: Tensor) -> Tensor:
        """Return the product with [..., inputs]."""
        if self._blocks is not None and values.numel() >= BLOCKS_PAY_FROM * values.shape[-1]:
            product: Tensor = torch.ops.mkldnn._linear_pointwise(values, self._blocks, self._bias, "none", [], "")
            return product
        return F.linear(values, self.weight, self._bias)

    def lay_out(self) -> None:
        """Copy the matrix into blocks; it takes its size in memory once more."""
        self._blocks = torch.ops.mkldnn._reorder_linear_weight(self.weight)
