"""Convert raw tensor bytes between the floating-point types of safetensors, bfloat16 included."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from zerotide_runtime.errors import InvalidModel

FLOATS = ("F32", "BF16", "F16")


def to_float32(raw: bytes | memoryview, dtype: str) -> npt.NDArray[np.float32]:
    """Return the numbers as float32; raise InvalidModel for anything but the floating-point types."""
    if dtype == "F32":
        return np.frombuffer(raw, dtype=np.float32)
    if dtype == "F16":
        return np.frombuffer(raw, dtype=np.float16).astype(np.float32)
    if dtype == "BF16":
        return (np.frombuffer(raw, dtype=np.uint16).astype(np.uint32) << 16).view(np.float32)
    raise InvalidModel(f"weights of type {dtype} are not supported; known: {', '.join(FLOATS)}")


def from_float32(values: npt.NDArray[np.float32], dtype: str) -> bytes:
    """Return the bytes of the numbers in the given type, rounded to nearest, ties to even."""
    if dtype == "F32":
        return values.tobytes()
    if dtype == "F16":
        return values.astype(np.float16).tobytes()
    bits = np.ascontiguousarray(values).view(np.uint32)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    return np.where(np.isnan(values), np.uint32(0x7FC0), rounded).astype(np.uint16).tobytes()
