"""Map weight files into memory and fetch their pages ahead of use, without torch.

The pages are the page cache's own: replicas on one node share them, and the kernel may drop them under
pressure.
"""

from __future__ import annotations

import ctypes
import mmap
import os
from dataclasses import dataclass
from pathlib import Path

from zerotide_runtime.weights.folder import weight_files
from zerotide_runtime.weights.order import whole_name
from zerotide_runtime.weights.safetensors_file import read_header

MADV_POPULATE_READ = 22  # Linux 5.14
STRIDE = 32 << 20


@dataclass(frozen=True)
class MappedTensor:
    """A tensor's place in a mapped file."""

    buffer: mmap.mmap
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


class MappedWeights:
    """A model's weight files in memory, and its tensors by name.

    `files` are their paths and where in each the first tensor begins; `buffers` are in the same order.
    """

    def __init__(self, folder: Path) -> None:
        self.tensors: dict[str, MappedTensor] = {}
        self.buffers: list[mmap.mmap] = []
        self.files: list[tuple[Path, int]] = []
        for path in weight_files(folder):
            entries = read_header(path)
            self.files.append((path, min((entry.begin for entry in entries.values()), default=0)))
            with path.open("rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_WILLNEED)
                # Private: nothing written here could ever reach the file.
                buffer = mmap.mmap(file.fileno(), 0, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE)
            self.buffers.append(buffer)
            for name, entry in entries.items():
                self.tensors[whole_name(name)] = MappedTensor(buffer, entry.dtype, entry.shape, entry.begin, entry.end)

    @property
    def nbytes(self) -> int:
        """Return the size of all files."""
        return sum(len(buffer) for buffer in self.buffers)

    def populate(self) -> None:
        """Read all pages and map them, so that the first forward pass does not stop for each.

        In strides: other threads map libraries at the same time and need the lock on the address space.
        """
        libc = ctypes.CDLL(None, use_errno=True)  # releases the interpreter's lock during the call
        libc.madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
        for buffer in self.buffers:
            anchor = ctypes.c_char.from_buffer(buffer)
            start = ctypes.addressof(anchor)
            for offset in range(0, len(buffer), STRIDE):
                if libc.madvise(start + offset, min(STRIDE, len(buffer) - offset), MADV_POPULATE_READ) != 0:
                    return  # an older kernel: pages come in on first use
