"""A device whose memory is the host's: what `upload` needs of a driver, where there is no GPU."""

from __future__ import annotations

import ctypes

from zerotide_runtime.errors import OutOfMemory


class HostMemory:
    """Memory by address; copies wait in their queue until somebody waits for it."""

    def __init__(self, limit: int = 1 << 30) -> None:
        self.limit = limit
        self.held: dict[int, ctypes.Array[ctypes.c_char]] = {}
        self.pinned: dict[int, ctypes.Array[ctypes.c_char]] = {}
        self.queues: dict[int, list[tuple[int, int, int]]] = {}

    def enter(self) -> None:
        """Nothing has to be made ready."""

    def allocate(self, nbytes: int) -> int:
        """Return new memory, within the limit."""
        if nbytes > self.limit:
            raise OutOfMemory("the GPU's memory is used up")
        block = ctypes.create_string_buffer(nbytes)
        self.held[ctypes.addressof(block)] = block
        return ctypes.addressof(block)

    def free(self, address: int) -> None:
        """Forget memory."""
        del self.held[address]

    def pin(self, nbytes: int) -> int:
        """Return new memory to copy from."""
        block = ctypes.create_string_buffer(nbytes)
        self.pinned[ctypes.addressof(block)] = block
        return ctypes.addressof(block)

    def unpin(self, address: int) -> None:
        """Forget memory to copy from."""
        del self.pinned[address]

    def stream(self) -> int:
        """Return a new queue."""
        number = id(queue := list[tuple[int, int, int]]())
        self.queues[number] = queue
        return number

    def end(self, stream: int) -> None:
        """Forget a queue; it must be empty."""
        assert not self.queues.pop(stream)

    def copy(self, device: int, host: int, nbytes: int, stream: int) -> None:
        """Remember to copy."""
        self.queues[stream].append((device, host, nbytes))

    def wait(self, stream: int) -> None:
        """Copy now."""
        for copy in self.queues[stream]:
            ctypes.memmove(*copy)
        self.queues[stream].clear()
