"""What stands between the load generator and the backend, and how each is started."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.wire import rivals
from bench.wire.processes import PROXY_CORE, NotServing, Running, free_port, running

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Peer:
    """One way to the backend; without a process it is the direct one."""

    name: str
    port: int
    key: str = ""
    process: Running | None = None

    def cpu_us(self) -> int:
        """Return the processor time that it has taken, in microseconds."""
        return self.process.cpu_us() if self.process is not None else 0


@contextlib.contextmanager
def rival(name: str, folder: Path, address: str, backend: int) -> Iterator[Peer]:
    """Run HAProxy or nginx before the backend. Raises NotServing."""
    port = free_port()
    command = (rivals.haproxy if name == "haproxy" else rivals.nginx)(folder, port, address, backend)
    with running(name, command, PROXY_CORE, folder) as process:
        process.wait_listening(port)
        yield Peer(name, port, process=process)


@contextlib.contextmanager
def bare(folder: Path, address: str, backend: int) -> Iterator[Peer]:
    """Run the relay that does nothing else. Raises NotServing."""
    command = [sys.executable, "-m", "bench.wire.bare", address, str(backend)]
    with running("bare", command, PROXY_CORE, folder, stdout=subprocess.PIPE, cwd=ROOT) as process:
        yield Peer("bare", int(_said(process)), process=process)


@contextlib.contextmanager
def alone(folder: Path, backend: int) -> Iterator[Peer]:
    """Run an activator that has its objects from no API server. Raises NotServing."""
    command = [sys.executable, "-m", "bench.wire.alone", str(folder / "usage"), str(backend)]
    with running("ours", command, PROXY_CORE, folder, stdout=subprocess.PIPE, cwd=ROOT) as process:
        said = json.loads(_said(process))
        yield Peer("ours", said["port"], said["key"], process)


def _said(process: Running) -> str:
    """Return the line that a process says once it serves. Raises NotServing."""
    assert process.process.stdout is not None
    line = process.process.stdout.readline()
    if not line:
        raise NotServing(f"{process.name} ended with {process.process.wait()}:\n{process.tail()}")
    return line
