"""Products with a weight matrix, laid out anew for batches once a process has some.

A matrix as it lies in the file is read once for a vector, as fast as memory gives it. For a few vectors at once the
library copies it into blocks first, at every step, and that takes as long as the product; so it is done once, for good:
in panels for code of our own (`panels.py`), and where that cannot be in oneDNN's blocks.

For a product with blocks oneDNN compiles code for each number of vectors, and keeps it: 0.6 MB and about a
millisecond each. So blocks serve batches alone, and `limits.prepare_torch` bounds what is kept.
"""

from __future__ import annotations

import platform

import torch
from torch import Tensor
from torch.nn import functional as F

from zerotide_runtime.engine.panels import Panels, fits

# For fewer rows the library goes through the matrix as it is; for more the copy is a small part of the product.
BLOCKS_PAY_FROM = 4
BLOCKS_PAY_TO = 64


def blocks_are_known(weight: Tensor) -> bool:
    """Tell whether this machine's library has a layout of its own for such a matrix."""
    usual = weight.device.type == "cpu" and weight.dtype == torch.float32
    return usual and platform.machine() in ("x86_64", "AMD64") and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]


class Linear:
    """A weight matrix, [outputs, inputs], and perhaps a bias."""

    __slots__ = ("_bias", "_blocks", "_panels", "weight")

    def __init__(self, weight: Tensor, bias: Tensor | None = None) -> None:
        self.weight = weight
        self._bias = bias
        self._blocks: Tensor | None = None
        self._panels: Panels | None = None

    def __call__(self, values: Tensor) -> Tensor:
        """Return the product with [..., inputs]."""
        if BLOCKS_PAY_FROM <= values.numel() // values.shape[-1] <= BLOCKS_PAY_TO:
            if self._panels is not None:
                return self._panels(values) if self._bias is None else self._panels(values).add_(self._bias)
            if self._blocks is not None:
                product: Tensor = torch.ops.mkldnn._linear_pointwise(values, self._blocks, self._bias, "none", [], "")
                return product
        return F.linear(values, self.weight, self._bias)

    def lay_out(self) -> None:
        """Copy the matrix into panels or blocks; it takes its size in memory once more."""
        if fits(self.weight):
            self._panels = Panels(self.weight)
        else:
            self._blocks = torch.ops.mkldnn._reorder_linear_weight(self.weight)
