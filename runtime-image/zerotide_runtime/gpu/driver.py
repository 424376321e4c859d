"""NVIDIA's driver by ctypes: a context, memory and copies before torch is imported.

Importing torch takes seconds in which the weights can be on their way. The context is the device's primary one, which
torch uses too, so nothing is made twice. Every call lets go of the interpreter's lock.
"""

from __future__ import annotations

import ctypes
import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from zerotide_runtime.errors import DeviceFailed, OutOfMemory

DEVICES = ("/dev/nvidiactl", "/dev/dxg")  # of Linux, and of Linux inside Windows
LIBRARY = "libcuda.so.1"
SUCCESS, OUT_OF_MEMORY = 0, 2
MAJOR, MINOR = 75, 76  # the attributes with a device's generation
AMPERE = 8
NON_BLOCKING = 1


def has_gpu() -> bool:
    """Tell whether there is a GPU, and a torch that computes on it, as far as one can tell without either."""
    if not any(Path(device).exists() for device in DEVICES):
        return False
    torch = importlib.util.find_spec("torch")
    folders = (torch and torch.submodule_search_locations) or ()
    return any((Path(folder) / "lib/libtorch_cuda.so").exists() for folder in folders)


class Memory(Protocol):
    """A device's memory, and pinned memory of the host to fill it from."""

    def enter(self) -> None:
        """Make the calling thread ready for the other calls."""
        ...

    def allocate(self, nbytes: int) -> int:
        """Return the address of device memory; raise OutOfMemory."""
        ...

    def free(self, address: int) -> None:
        """Give device memory back."""
        ...

    def pin(self, nbytes: int) -> int:
        """Return the address of pinned host memory."""
        ...

    def unpin(self, address: int) -> None:
        """Give pinned host memory back."""
        ...

    def stream(self) -> int:
        """Return a new queue of copies."""
        ...

    def end(self, stream: int) -> None:
        """Give a queue back."""
        ...

    def copy(self, device: int, host: int, nbytes: int, stream: int) -> None:
        """Queue a copy from pinned memory to the device."""
        ...

    def wait(self, stream: int) -> None:
        """Wait for all copies of a queue."""
        ...


class Driver:
    """The first GPU that this process may use."""

    def __init__(self) -> None:
        try:
            self._library = ctypes.CDLL(LIBRARY)
        except OSError as error:
            raise DeviceFailed(f"there is a GPU but no driver library: {error}; mount the driver's libraries") from None
        self._device = ctypes.c_int()
        self._context = ctypes.c_void_p()
        self._call("cuInit", 0)
        self._call("cuDeviceGet", ctypes.byref(self._device), 0)
        self._call("cuDevicePrimaryCtxRetain", ctypes.byref(self._context), self._device)
        self.enter()

    def _call(self, name: str, *arguments: Any) -> None:
        status = getattr(self._library, name)(*arguments)
        if status == SUCCESS:
            return
        text = ctypes.c_char_p()
        self._library.cuGetErrorString(status, ctypes.byref(text))
        said = f"{name}: {(text.value or b'unknown error').decode()}"
        raise OutOfMemory(f"the GPU's memory is used up ({said})") if status == OUT_OF_MEMORY else DeviceFailed(said)

    def enter(self) -> None:
        """Make the calling thread ready for the other calls."""
        self._call("cuCtxSetCurrent", self._context)

    @property
    def free_bytes(self) -> int:
        """Return how much memory nobody uses."""
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        self.enter()
        self._call("cuMemGetInfo_v2", ctypes.byref(free), ctypes.byref(total))
        return free.value

    def _attribute(self, number: int) -> int:
        value = ctypes.c_int()
        self._call("cuDeviceGetAttribute", ctypes.byref(value), number, self._device)
        return value.value

    @property
    def halves(self) -> bool:
        """Tell whether it computes in bfloat16."""
        return self._attribute(MAJOR) >= AMPERE

    @property
    def architecture(self) -> str:
        """Return what compilers call it."""
        return f"sm_{self._attribute(MAJOR)}{self._attribute(MINOR)}"

    def load(self, code: bytes, names: Sequence[str]) -> dict[str, ctypes.c_void_p]:
        """Load machine code; return its functions by name."""
        self.enter()
        module = ctypes.c_void_p()
        self._call("cuModuleLoadData", ctypes.byref(module), code)
        functions = {name: ctypes.c_void_p() for name in names}
        for name, function in functions.items():
            self._call("cuModuleGetFunction", ctypes.byref(function), module, name.encode())
        return functions

    def launch(
        self, function: ctypes.c_void_p, blocks: int, threads: int, stream: int, arguments: Sequence[Any]
    ) -> None:
        """Queue a function on a stream; the calling thread must have the context."""
        places = (ctypes.c_void_p * len(arguments))(*[ctypes.addressof(argument) for argument in arguments])
        self._call("cuLaunchKernel", function, blocks, 1, 1, threads, 1, 1, 0, ctypes.c_void_p(stream), places, None)

    def allocate(self, nbytes: int) -> int:
        """Return the address of device memory; raise OutOfMemory."""
        address = ctypes.c_uint64()
        self._call("cuMemAlloc_v2", ctypes.byref(address), ctypes.c_size_t(nbytes))
        return address.value

    def free(self, address: int) -> None:
        """Give device memory back."""
        self.enter()
        self._call("cuMemFree_v2", ctypes.c_uint64(address))

    def pin(self, nbytes: int) -> int:
        """Return the address of pinned host memory."""
        address = ctypes.c_void_p()
        self._call("cuMemHostAlloc", ctypes.byref(address), ctypes.c_size_t(nbytes), 0)
        return address.value or 0

    def unpin(self, address: int) -> None:
        """Give pinned host memory back."""
        self._call("cuMemFreeHost", ctypes.c_void_p(address))

    def stream(self) -> int:
        """Return a new queue of copies."""
        stream = ctypes.c_void_p()
        self._call("cuStreamCreate", ctypes.byref(stream), NON_BLOCKING)
        return stream.value or 0

    def end(self, stream: int) -> None:
        """Give a queue back."""
        self._call("cuStreamDestroy_v2", ctypes.c_void_p(stream))

    def copy(self, device: int, host: int, nbytes: int, stream: int) -> None:
        """Queue a copy from pinned memory to the device."""
        self._call(
            "cuMemcpyHtoDAsync_v2",
            ctypes.c_uint64(device),
            ctypes.c_void_p(host),
            ctypes.c_size_t(nbytes),
            ctypes.c_void_p(stream),
        )

    def wait(self, stream: int) -> None:
        """Wait for all copies of a queue."""
        self._call("cuStreamSynchronize", ctypes.c_void_p(stream))
