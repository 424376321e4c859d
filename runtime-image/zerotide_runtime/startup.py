"""The stages of a start, in milliseconds since the process began."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

# listen: the port is open; import: the computing library is there; read: the weights are in memory; device: the
# model is put together where it computes; ready: requests run; torch: it took over from the quick path.
STAGES = ("listen", "import", "read", "device", "ready", "first_token", "torch")


def process_start() -> float:
    """Return when the kernel started this process, in seconds on CLOCK_BOOTTIME (its steps are 10 ms)."""
    # The command's name stands in parentheses and may hold anything; fields are counted after the last one.
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    return int(fields[19]) / os.sysconf("SC_CLK_TCK")


class Startup:
    """A stopwatch from the process's start; stages are marked once, from any thread."""

    def __init__(self) -> None:
        self._origin = process_start()
        self._lock = threading.Lock()
        self._stages: dict[str, float] = {}
        self.process_start_unix_ms = round((time.time() - self._elapsed()) * 1000)

    def _elapsed(self) -> float:
        return time.clock_gettime(time.CLOCK_BOOTTIME) - self._origin

    def begin_again(self) -> None:
        """Count from now on: the process stood by, and is given a model."""
        with self._lock:
            self._origin = time.clock_gettime(time.CLOCK_BOOTTIME)
            self._stages.clear()

    def mark(self, stage: str) -> None:
        """Note that a stage is reached; later marks of the same stage are ignored."""
        with self._lock:
            self._stages.setdefault(stage, self._elapsed() * 1000)

    def stages(self) -> dict[str, float]:
        """Return the stages reached so far, in the order they were."""
        with self._lock:
            return dict(self._stages)
