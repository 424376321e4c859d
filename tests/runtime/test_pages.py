"""Arrays on pages of their own: zeros, of the kernel's, and back with it at once."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from tests.runtime.soak import private_memory
from zerotide_runtime.engine.pages import SMALL, own_pages

MEGABYTE = 1 << 18  # float32 values


def mapped(array: np.ndarray) -> bool:
    """Tell whether an array begins on a mapping of its own, by what the kernel says of this process."""
    start = f"{array.ctypes.data:x}-"
    return any(line.startswith(start) for line in Path("/proc/self/maps").read_text().splitlines())


@pytest.mark.parametrize("shape", [(1,), (2, 3, 5), (SMALL // 4,), (4, MEGABYTE)])
def test_zeros_that_can_be_written(shape: tuple[int, ...]) -> None:
    array = own_pages(shape)
    assert array.shape == shape and array.dtype == np.float32 and not array.any()
    array[...] = 3.0
    assert (array == 3.0).all() and array.flags.c_contiguous


def test_what_is_large_goes_back_to_the_kernel_whatever_lies_between() -> None:
    """In a heap of one's own, what is still held would keep the holes between from going back."""
    before = private_memory(os.getpid())
    arrays = [own_pages((MEGABYTE,)) for _ in range(100)]
    assert private_memory(os.getpid()) < before + (8 << 20), "the kernel gives it as it is written"
    for array in arrays:
        array[...] = 1.0
    assert private_memory(os.getpid()) > before + (90 << 20)
    del arrays[::2], array
    assert private_memory(os.getpid()) < before + (60 << 20)


def test_nothing_small_is_mapped() -> None:
    assert not mapped(own_pages((SMALL // 4 - 1,)))


def test_what_the_kernel_cannot_give_is_out_of_memory() -> None:
    with pytest.raises(MemoryError, match=r"no \d+ bytes for keys and values"):
        own_pages((1 << 50,))
