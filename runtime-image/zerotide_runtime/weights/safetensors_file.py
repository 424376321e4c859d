"""Read and write the safetensors container: an 8-byte length, a JSON header, the tensors' bytes without gaps.

Written files have their data section start at a page, so that it can be mapped or read past the page cache.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zerotide_runtime.errors import InvalidModel

PAGE = 4096
MAX_HEADER = 100_000_000
ITEM_SIZES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}


@dataclass(frozen=True)
class Entry:
    """One tensor: its type, its shape and its bytes' place, counted from the start of the file."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


def read_header(path: Path) -> dict[str, Entry]:
    """Return a file's tensors by name; raise InvalidModel where the header and the file disagree."""
    size = path.stat().st_size
    with path.open("rb") as file:
        prefix = file.read(8)
        length = struct.unpack("<Q", prefix)[0] if len(prefix) == 8 else 0
        if not 2 <= length <= min(size - 8, MAX_HEADER):
            raise InvalidModel(f"{path} is not a safetensors file, or it was cut short")
        try:
            header: dict[str, Any] = json.loads(file.read(length))
        except ValueError:
            raise InvalidModel(f"{path} has a header that is not JSON") from None
    header.pop("__metadata__", None)
    return {name: _entry(path, name, fields, 8 + length, size) for name, fields in header.items()}


def _entry(path: Path, name: str, fields: dict[str, Any], start: int, size: int) -> Entry:
    try:
        begin, end = fields["data_offsets"]
        entry = Entry(name, fields["dtype"], tuple(fields["shape"]), start + begin, start + end)
        expected = math.prod(entry.shape) * ITEM_SIZES[entry.dtype]
    except (KeyError, TypeError, ValueError):
        raise InvalidModel(f"{path} describes tensor {name} in a way this reader does not know") from None
    if entry.end > size or entry.end - entry.begin != expected:
        raise InvalidModel(f"{path} is damaged: tensor {name} does not fit its place; fetch the file again")
    return entry


def write(path: Path, entries: Iterable[tuple[str, str, tuple[int, ...]]], data: Iterable[bytes]) -> None:
    """Write tensors (name, type, shape) and, in the same order, their bytes."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    at = 0
    for name, dtype, shape in entries:
        nbytes = math.prod(shape) * ITEM_SIZES[dtype]
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [at, at + nbytes]}
        at += nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-(8 + len(text)) % PAGE)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        written = sum(file.write(chunk) for chunk in data)
    if written != at:
        raise ValueError(f"the tensors hold {written} bytes where the header says {at}")
