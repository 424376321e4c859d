"""Weight matrices laid out for `kernel.py`, and the threads that its code runs on."""

from __future__ import annotations

import ctypes
import logging
import sys
from collections.abc import Callable
from functools import cache, lru_cache
from pathlib import Path

import torch
from torch import Tensor

from zerotide_runtime.engine.kernel import FLOAT, WIDE, Kernel, Task, depth

log = logging.getLogger(__name__)

MOST_KERNELS = 512  # of five shapes of products for up to 64 rows; a few kilobytes each
Run = Callable[[int, int, int], None]


def fits(weight: Tensor) -> bool:
    """Tell whether a matrix can lie in panels, and this machine can compute with them."""
    outputs, inputs = weight.shape
    usual = weight.device.type == "cpu" and weight.dtype == torch.float32
    # Distances within a panel, and from row to row of sums, are numbers of 32 bits.
    small = max(inputs * WIDE, outputs * 64, inputs * 64) * FLOAT < 1 << 31
    return usual and small and outputs % WIDE == 0 and depth(inputs) > 0 and machine_can()


@cache
def machine_can() -> bool:
    """Tell whether there is AVX-512, may be code, and are torch's threads to run it on."""
    if sys.platform != "linux" or torch.backends.cpu.get_cpu_capability() != "AVX512":
        return False
    try:
        Kernel(1, 64, WIDE)
        threads()
    except OSError as error:
        log.warning("products go without code of their own: %s", error)
        return False
    return True


@cache
def threads() -> Run:
    """Return what runs a C function, with its argument, on so many of torch's own threads; raise OSError."""
    # Theirs, because a second pool of as many would take the cores from them.
    found = sorted((Path(torch.__file__).parent / "lib").glob("libgomp*"))
    if not found:
        raise OSError("torch has no libgomp")
    parallel = ctypes.CDLL(str(found[0])).GOMP_parallel
    parallel.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint]
    parallel.restype = None
    return lambda code, argument, count: parallel(code, argument, count, 0)


@lru_cache(MOST_KERNELS)
def kernel(rows: int, inputs: int, outputs: int) -> Kernel:
    """Return the code for products of a size, made once: in a millisecond or two."""
    return Kernel(rows, inputs, outputs)


class Panels:
    """A copy of a weight matrix, [outputs, inputs], in panels."""

    __slots__ = ("_inputs", "_outputs", "_panels")

    def __init__(self, weight: Tensor) -> None:
        self._outputs, self._inputs = weight.shape
        panels = weight.view(self._outputs // WIDE, WIDE, self._inputs)
        self._panels = panels.transpose(1, 2).contiguous()

    def __call__(self, values: Tensor) -> Tensor:
        """Return the product with [..., inputs]."""
        values = values.contiguous()
        sums = values.new_empty((*values.shape[:-1], self._outputs))
        code = kernel(values.numel() // self._inputs, self._inputs, self._outputs)
        task = Task(0, len(self._panels), values.data_ptr(), self._panels.data_ptr(), sums.data_ptr())
        threads()(code.address, ctypes.addressof(task), torch.get_num_threads())
        return sums
