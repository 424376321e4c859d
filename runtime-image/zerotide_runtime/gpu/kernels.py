"""Compile `kernels.cu` for the device at hand with NVIDIA's run-time compiler, which comes with torch."""

from __future__ import annotations

import ctypes
import importlib.util
from pathlib import Path
from typing import Any

from zerotide_runtime.errors import DeviceFailed
from zerotide_runtime.gpu.driver import Driver

SOURCE = Path(__file__).with_name("kernels.cu")
NAMES = ("add_norm", "turn", "gated")
SYSTEM = ("libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so")
Argument = ctypes.c_void_p | ctypes.c_int | ctypes.c_longlong | ctypes.c_float


def find_compiler() -> ctypes.CDLL:
    """Return the compiler's library: the one beside torch, or the system's; raise DeviceFailed."""
    package = importlib.util.find_spec("nvidia")
    folders = (package and package.submodule_search_locations) or ()
    found = [path for folder in folders for path in sorted(Path(folder).glob("*/lib/libnvrtc.so.*[0-9]"))]
    for name in (*found, *SYSTEM):
        try:
            if isinstance(name, Path):  # it would look for this one among the system's libraries
                for part in name.parent.glob("libnvrtc-builtins.so.*"):
                    ctypes.CDLL(str(part))
            return ctypes.CDLL(str(name))
        except OSError:
            continue
    raise DeviceFailed("there is no run-time compiler (libnvrtc) beside torch")


def compile_kernels(architecture: str) -> bytes:
    """Return the kernels' machine code for an architecture, like sm_90; raise DeviceFailed."""
    library = find_compiler()
    program = ctypes.c_void_p()

    def call(name: str, *arguments: Any) -> None:
        if getattr(library, name)(*arguments) != 0:
            size = ctypes.c_size_t()
            library.nvrtcGetProgramLogSize(program, ctypes.byref(size))
            log = ctypes.create_string_buffer(max(1, size.value))
            library.nvrtcGetProgramLog(program, log)
            raise DeviceFailed(f"{name}: {log.value.decode(errors='replace')}")

    call("nvrtcCreateProgram", ctypes.byref(program), SOURCE.read_bytes(), SOURCE.name.encode(), 0, None, None)
    options = [f"--gpu-architecture={architecture}".encode(), b"--std=c++17"]
    call("nvrtcCompileProgram", program, len(options), (ctypes.c_char_p * len(options))(*options))
    size = ctypes.c_size_t()
    call("nvrtcGetCUBINSize", program, ctypes.byref(size))
    code = ctypes.create_string_buffer(size.value)
    call("nvrtcGetCUBIN", program, code)
    library.nvrtcDestroyProgram(ctypes.byref(program))
    return code.raw


class Kernels:
    """The compiled kernels of one device."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._functions = driver.load(compile_kernels(driver.architecture), NAMES)

    def launch(self, name: str, blocks: int, threads: int, stream: int, *arguments: Argument) -> None:
        """Queue a kernel on a stream."""
        self._driver.launch(self._functions[name], blocks, threads, stream, arguments)
