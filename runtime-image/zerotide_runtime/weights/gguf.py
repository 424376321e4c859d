"""Read GGUF files: metadata, tensor directory, and the raw bytes of each tensor.

Only the container is known here; `dequantise` knows the block formats and `convert` the names.
"""

from __future__ import annotations

import mmap
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from zerotide_runtime.errors import GGUFError

MAGIC = b"GGUF"
VERSIONS = (2, 3)
DEFAULT_ALIGNMENT = 32

# Metadata value types by their number in the file; 8 is a string, 9 an array.
SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
STRING, ARRAY = 8, 9


@dataclass(frozen=True)
class GGMLType:
    """One tensor format: elements per block and bytes per block."""

    name: str
    block: int
    size: int


TYPES = {
    0: GGMLType("F32", 1, 4),
    1: GGMLType("F16", 1, 2),
    2: GGMLType("Q4_0", 32, 18),
    3: GGMLType("Q4_1", 32, 20),
    6: GGMLType("Q5_0", 32, 22),
    7: GGMLType("Q5_1", 32, 24),
    8: GGMLType("Q8_0", 32, 34),
    30: GGMLType("BF16", 1, 2),
}


@dataclass(frozen=True)
class TensorInfo:
    """Where a tensor lies; `shape` is in row-major order, the reverse of the file's."""

    name: str
    shape: tuple[int, ...]
    type: GGMLType
    offset: int
    nbytes: int


class Cursor:
    """A reading position in the header."""

    def __init__(self, data: mmap.mmap) -> None:
        self.data = data
        self.at = 0

    def unpack(self, code: str) -> Any:
        """Read one little-endian number."""
        try:
            (value,) = struct.unpack_from("<" + code, self.data, self.at)
        except struct.error:
            raise GGUFError(f"the GGUF header is cut short at byte {self.at}; fetch the file again") from None
        self.at += struct.calcsize("<" + code)
        return value

    def text(self) -> str:
        """Read a length-prefixed string."""
        length = self.unpack("Q")
        raw = self.data[self.at : self.at + length]
        if len(raw) != length:
            raise GGUFError(f"the GGUF header is cut short at byte {self.at}; fetch the file again")
        self.at += length
        return raw.decode("utf-8", errors="replace")

    def value(self, kind: int) -> Any:
        """Read one metadata value of the given type."""
        if kind in SCALARS:
            return self.unpack(SCALARS[kind])
        if kind == STRING:
            return self.text()
        if kind == ARRAY:
            item, count = self.unpack("I"), self.unpack("Q")
            return [self.value(item) for _ in range(count)]
        raise GGUFError(f"the GGUF header has a value of unknown type {kind}")


class GGUFFile:
    """An open GGUF file; close it, or use it as a context manager."""

    def __init__(self, path: Path) -> None:
        with path.open("rb") as file:
            if file.read(4) != MAGIC:
                raise GGUFError(f"{path} is not a GGUF file: its first bytes are not {MAGIC.decode()}")
            self._data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        try:
            self.metadata, self.tensors = self._read_header()
        except BaseException:
            self._data.close()
            raise

    def __enter__(self) -> GGUFFile:
        return self

    def __exit__(self, *_: object) -> None:
        self._data.close()

    def _read_header(self) -> tuple[dict[str, Any], dict[str, TensorInfo]]:
        cursor = Cursor(self._data)
        cursor.at = len(MAGIC)
        version = cursor.unpack("I")
        if version not in VERSIONS:
            raise GGUFError(f"GGUF version {version} is not known (known: 2, 3)")
        n_tensors, n_values = cursor.unpack("Q"), cursor.unpack("Q")
        metadata = {}
        for _ in range(n_values):
            key = cursor.text()
            metadata[key] = cursor.value(cursor.unpack("I"))
        entries = [self._read_entry(cursor) for _ in range(n_tensors)]
        alignment = int(metadata.get("general.alignment", DEFAULT_ALIGNMENT))
        start = -(-cursor.at // alignment) * alignment
        tensors = {}
        for entry in entries:
            if start + entry.offset + entry.nbytes > len(self._data):
                raise GGUFError(f"tensor {entry.name} ends after the end of the file; fetch the file again")
            tensors[entry.name] = TensorInfo(entry.name, entry.shape, entry.type, start + entry.offset, entry.nbytes)
        return metadata, tensors

    @staticmethod
    def _read_entry(cursor: Cursor) -> TensorInfo:
        name = cursor.text()
        dims = [cursor.unpack("Q") for _ in range(cursor.unpack("I"))]
        number, offset = cursor.unpack("I"), cursor.unpack("Q")
        if number not in TYPES:
            known = ", ".join(known.name for known in TYPES.values())
            raise GGUFError(f"tensor {name} has the format number {number}; this reader knows {known}")
        kind = TYPES[number]
        count = int(np.prod(dims, dtype=np.int64)) if dims else 1
        if dims and dims[0] % kind.block:
            raise GGUFError(f"tensor {name} has rows of {dims[0]} elements, not a multiple of {kind.block}")
        return TensorInfo(name, tuple(reversed(dims)), kind, offset, count // kind.block * kind.size)

    def raw(self, name: str) -> npt.NDArray[np.uint8]:
        """Return a copy of one tensor's bytes as they lie in the file."""
        info = self.tensors[name]
        return np.frombuffer(self._data[info.offset : info.offset + info.nbytes], dtype=np.uint8)
