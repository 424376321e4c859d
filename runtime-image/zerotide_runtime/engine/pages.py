"""Arrays on pages of their own: what is large and stays for a while leaves no holes in the heap when it goes.

In the heap, each would lie among what a single pass needs; a process that serves for long has then as much again in
holes. The kernel takes these back at once, and gives them page by page, as they are written.
"""

from __future__ import annotations

import math
import mmap
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from zerotide_runtime.engine.arrays import Floats

SMALL = 64 << 10  # bytes; a mapping costs the kernel more than that is worth


def own_pages(shape: tuple[int, ...]) -> Floats:
    """Return zeros of float32. Raises MemoryError."""
    size = math.prod(shape) * np.dtype(np.float32).itemsize
    if size < SMALL:
        return np.zeros(shape, np.float32)
    try:
        pages = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except OSError as error:
        raise MemoryError(f"no {size} bytes for keys and values: {error}") from error
    return np.frombuffer(pages, np.float32).reshape(shape)
