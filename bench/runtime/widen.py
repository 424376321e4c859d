"""Write a GGUF file again with all its tensors as float32, for engines that are to compute in the same precision."""

from __future__ import annotations

import mmap
import struct
import sys
from pathlib import Path

from zerotide_runtime.weights.dequantise import dequantise
from zerotide_runtime.weights.gguf import DEFAULT_ALIGNMENT, Cursor, GGUFFile

F32 = 0


def widen(source: Path, target: Path) -> None:
    """Copy the metadata as they are, and the tensors as float32."""
    with source.open("rb") as file, GGUFFile(source) as model:
        data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        cursor = Cursor(data)
        cursor.at = 4 + 4 + 8
        count = cursor.unpack("Q")
        start = cursor.at
        for _ in range(count):
            cursor.text()
            cursor.value(cursor.unpack("I"))
        head = data[: 4 + 4] + struct.pack("<QQ", len(model.tensors), count) + data[start : cursor.at]
        at = 0
        for name, info in model.tensors.items():
            dims = tuple(reversed(info.shape))
            head += struct.pack("<Q", len(name)) + name.encode() + struct.pack(f"<I{len(dims)}Q", len(dims), *dims)
            head += struct.pack("<IQ", F32, at)
            size = 4
            for dim in dims:
                size *= dim
            at += -(-size // DEFAULT_ALIGNMENT) * DEFAULT_ALIGNMENT
        head += b"\0" * (-len(head) % DEFAULT_ALIGNMENT)
        partial = target.with_suffix(".partial")
        with partial.open("wb") as out:
            out.write(head)
            for name, info in model.tensors.items():
                values = dequantise(model.raw(name), info.type.name, info.shape).tobytes()
                out.write(values + b"\0" * (-len(values) % DEFAULT_ALIGNMENT))
        partial.rename(target)


if __name__ == "__main__":
    widen(Path(sys.argv[1]), Path(sys.argv[2]))
