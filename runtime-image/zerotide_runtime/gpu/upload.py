"""Bring weight files into a GPU's memory as fast as the link takes them, without torch.

Several threads read pieces into pinned memory, each with two buffers, so that one is filled while the other is copied.
From the page cache this comes near the link's rate, from a disk it has the disk's. Holding the page cache's own pages
in place for the device to read spares the processor a copy, and took twice as long: letting go of them is slow.
"""

from __future__ import annotations

import ctypes
import itertools
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zerotide_runtime.errors import InvalidModel
from zerotide_runtime.gpu.driver import Memory

PIECE = 8 << 20
BUFFERS = 2
THREADS = 8
ALIGNMENT = 256


class DeviceFile:
    """A file's bytes in device memory, given back when nothing refers to them; torch takes it for an array.

    `shift` is how far behind its start the file's first byte lies, so that the tensors are aligned.
    """

    def __init__(self, memory: Memory, nbytes: int, data_start: int) -> None:
        self._memory = memory
        self.shift = -data_start % ALIGNMENT
        self.nbytes = nbytes + self.shift
        self.address = memory.allocate(self.nbytes)

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        """Describe the bytes as every library of arrays understands."""
        return {"version": 3, "shape": (self.nbytes,), "typestr": "|u1", "data": (self.address, False)}

    def __del__(self) -> None:
        if hasattr(self, "address"):
            self._memory.free(self.address)


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a file and where it goes."""

    file: int
    offset: int
    nbytes: int
    target: int


def pieces(files: Sequence[DeviceFile]) -> Iterator[Piece]:
    """Cut files into pieces, in order."""
    for number, file in enumerate(files):
        size = file.nbytes - file.shift
        for offset in range(0, size, PIECE):
            yield Piece(number, offset, min(PIECE, size - offset), file.address + file.shift + offset)


def upload(memory: Memory, paths: Sequence[tuple[Path, int]], threads: int) -> list[DeviceFile]:
    """Return the files, each with the place where its tensors begin, in device memory; raise OutOfMemory."""
    memory.enter()
    files = [DeviceFile(memory, path.stat().st_size, data_start) for path, data_start in paths]
    left = list(pieces(files))
    numbers = itertools.count()  # whoever is next takes the next one
    opened = [os.open(path, os.O_RDONLY) for path, _ in paths]
    try:
        with ThreadPoolExecutor(min(threads, THREADS, len(left)), thread_name_prefix="upload") as pool:
            for work in [pool.submit(_carry, memory, opened, left, numbers) for _ in range(min(threads, len(left)))]:
                work.result()
    finally:
        for descriptor in opened:
            os.close(descriptor)
    return files


def _carry(memory: Memory, opened: list[int], left: list[Piece], numbers: Iterator[int]) -> None:
    """Carry pieces until none is left."""
    memory.enter()
    streams, block = [memory.stream() for _ in range(BUFFERS)], memory.pin(BUFFERS * PIECE)
    try:
        for turn in itertools.count():
            number = next(numbers)
            if number >= len(left):
                break
            piece, stream, at = left[number], streams[turn % BUFFERS], block + turn % BUFFERS * PIECE
            memory.wait(stream)
            _read(opened[piece.file], piece, at)
            memory.copy(piece.target, at, piece.nbytes, stream)
    finally:
        for stream in streams:
            memory.wait(stream)  # also after a failure: a copy may be under way
            memory.end(stream)
        memory.unpin(block)


def _read(descriptor: int, piece: Piece, address: int) -> None:
    view = memoryview((ctypes.c_char * piece.nbytes).from_address(address)).cast("B")
    done = 0
    while done < piece.nbytes:
        count = os.preadv(descriptor, [view[done:]], piece.offset + done)
        if count == 0:
            raise InvalidModel("a weight file was cut short while it was read; fetch it again")
        done += count
