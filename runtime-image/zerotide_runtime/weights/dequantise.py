"""Turn GGML blocks into float32, vectorised over a whole tensor.

Each block of 32 weights holds a scale, perhaps a minimum, and 4, 5 or 8 bits a weight. The low nibbles of a
4-bit block are its first 16 weights, the high nibbles the rest.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]

BLOCK = 32


def _half(blocks: Bytes, start: int) -> Floats:
    """Read the float16 at a byte offset of every block, as a column."""
    return np.ascontiguousarray(blocks[:, start : start + 2]).view(np.float16).astype(np.float32)


def _nibbles(packed: Bytes) -> Bytes:
    """Split [blocks, 16] bytes into [blocks, 32] four-bit numbers."""
    return np.concatenate([packed & 0x0F, packed >> 4], axis=1)


def _fifth_bits(packed: Bytes) -> Bytes:
    """Spread [blocks, 4] bytes into [blocks, 32] with the bit's weight of 16."""
    return np.unpackbits(packed, axis=1, bitorder="little") * np.uint8(16)


def _f32(data: Bytes) -> Floats:
    return data.view(np.float32).copy()


def _f16(data: Bytes) -> Floats:
    return data.view(np.float16).astype(np.float32)


def _bf16(data: Bytes) -> Floats:
    return (data.view(np.uint16).astype(np.uint32) << 16).view(np.float32)


def _q4_0(data: Bytes) -> Floats:
    blocks = data.reshape(-1, 18)
    return _half(blocks, 0) * (_nibbles(blocks[:, 2:]).astype(np.float32) - 8)


def _q4_1(data: Bytes) -> Floats:
    blocks = data.reshape(-1, 20)
    return _half(blocks, 0) * _nibbles(blocks[:, 4:]) + _half(blocks, 2)


def _q5_0(data: Bytes) -> Floats:
    blocks = data.reshape(-1, 22)
    numbers = _nibbles(blocks[:, 6:]) | _fifth_bits(blocks[:, 2:6])
    return _half(blocks, 0) * (numbers.astype(np.float32) - 16)


def _q5_1(data: Bytes) -> Floats:
    blocks = data.reshape(-1, 24)
    numbers = _nibbles(blocks[:, 8:]) | _fifth_bits(blocks[:, 4:8])
    return _half(blocks, 0) * numbers + _half(blocks, 2)


def _q8_0(data: Bytes) -> Floats:
    blocks = data.reshape(-1, 34)
    return _half(blocks, 0) * np.ascontiguousarray(blocks[:, 2:]).view(np.int8)


FORMATS: dict[str, Callable[[Bytes], Floats]] = {
    "F32": _f32,
    "F16": _f16,
    "BF16": _bf16,
    "Q4_0": _q4_0,
    "Q4_1": _q4_1,
    "Q5_0": _q5_0,
    "Q5_1": _q5_1,
    "Q8_0": _q8_0,
}


def dequantise(data: Bytes, kind: str, shape: tuple[int, ...]) -> Floats:
    """Return a tensor's weights as float32 in the given shape; raise KeyError for a format not in `FORMATS`."""
    return FORMATS[kind](data).reshape(shape)
