"""Processes that a benchmark starts: pinned to a core, measured, ended."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

TICK_US = 1_000_000 // os.sysconf("SC_CLK_TCK")
LOAD_CORE, PROXY_CORE = "0", "1"
"""What is measured has a core alone; the load generator, the backend and everything else share the other."""


class NotServing(RuntimeError):
    """A process that was to serve ended, or did not listen in time; its last words are in it."""


class Running:
    """One process of a benchmark."""

    def __init__(self, name: str, process: subprocess.Popen[str], log: Path) -> None:
        self.name, self.process, self.log = name, process, log

    def cpu_us(self) -> int:
        """Return the processor time that it and its children have taken, all threads, in microseconds."""
        return sum(_stat_cpu_us(pid) for pid in tree(self.process.pid))

    def rss(self) -> int:
        """Return the memory that it and its children hold, in bytes."""
        return sum(_rss(pid) for pid in tree(self.process.pid))

    def wait_listening(self, port: int, address: str = "127.0.0.1", timeout: float = 30.0) -> None:
        """Return when something accepts at the port. Raises NotServing."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise NotServing(f"{self.name} ended with {self.process.returncode}:\n{self.tail()}")
            with socket.socket() as probe:
                probe.settimeout(1)
                if probe.connect_ex((address, port)) == 0:
                    return
            time.sleep(0.05)
        raise NotServing(f"{self.name} does not listen at {address}:{port} after {timeout:.0f} s:\n{self.tail()}")

    def tail(self, size: int = 2000) -> str:
        """Return the end of what it said."""
        return self.log.read_text(errors="replace")[-size:] if self.log.exists() else ""

    def end(self) -> None:
        """End it and what it started, by force where one does not hear."""
        below = tree(self.process.pid)[1:]
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()
        for pid in below:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


@contextlib.contextmanager
def running(name: str, command: list[str], core: str, folder: Path, **options: Any) -> Iterator[Running]:
    """Run a command on one core with its output in a file of the folder, and end it."""
    log = folder / f"{name}.log"
    with log.open("w") as file:
        output = {"stdout": file, "stderr": file, **options}
        pinned = ["taskset", "-c", core, *command]
        process = subprocess.Popen(pinned, stdin=subprocess.DEVNULL, text=True, **output)
    process_running = Running(name, process, log)
    try:
        yield process_running
    finally:
        process_running.end()


def tree(pid: int) -> list[int]:
    """Return a process and all below it."""
    found, left = [], [pid]
    while left:
        each = left.pop()
        found.append(each)
        for task in Path(f"/proc/{each}/task").glob("*/children"):
            with contextlib.suppress(OSError):
                left += map(int, task.read_text().split())
    return found


def free_port() -> int:
    """Return a loopback port that is free now, and that no outgoing connection takes."""
    for port in range(18100, 19999):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                probe.bind(("0.0.0.0", port))
                if port not in _given:
                    _given.add(port)
                    return port
    raise OSError("no port between 18100 and 19998 is free")


_given: set[int] = set()


def _stat_cpu_us(pid: int) -> int:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return (int(fields[11]) + int(fields[12])) * TICK_US


def _rss(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0
