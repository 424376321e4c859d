"""Send load with the generator, and read what it and the clocks say."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.wire.processes import LOAD_CORE


class LoadFailed(RuntimeError):
    """The generator got other answers than it should have; a figure of them would mean nothing."""


@dataclass(frozen=True)
class Spread:
    """How some durations lie, in microseconds."""

    count: int = 0
    p50: int = 0
    p90: int = 0
    p99: int = 0
    max: int = 0


@dataclass(frozen=True)
class Load:
    """What was measured between the marks; durations in microseconds, `cpu_us` that of the process measured."""

    seconds: float
    answered: int
    failed: int
    events: int
    statuses: dict[int, int]
    latency: Spread
    delay: Spread
    cpu_us: int
    streams: int
    first_us: int
    last_us: int
    sample: str
    raw: list[int] = field(default_factory=list)
    began_us: int = 0

    @property
    def rate(self) -> float:
        """Return answers per second."""
        return self.answered / self.seconds

    @property
    def cpu_per_request(self) -> float:
        """Return the processor time for each answer, in microseconds."""
        return self.cpu_us / max(self.answered, 1)

    def all_well(self, name: str) -> Load:
        """Return itself if every answer was 200. Raises LoadFailed."""
        if self.failed or set(self.statuses) - {200}:
            raise LoadFailed(f"{name}: {self.failed} failed, statuses {self.statuses}; the first was: {self.sample}")
        return self


def parse(begin: dict[str, Any], end: dict[str, Any], cpu_us: int) -> Load:
    """Make a load of the generator's two lines."""
    return Load(
        seconds=end["seconds"],
        answered=end["answered"],
        failed=end["failed"],
        events=end["events"],
        statuses={int(status): count for status, count in end["statuses"].items()},
        latency=Spread(**end["latency_us"]),
        delay=Spread(**end["delay_us"]),
        cpu_us=cpu_us,
        streams=begin.get("streams", 0),
        first_us=end["first_us"],
        last_us=end["last_us"],
        sample=end["sample"],
        raw=end.get("raw", []),
        began_us=round(end["us"] - end["seconds"] * 1e6),
    )


class Generator:
    """The generator's program, where requests are written for it, and the core that it is kept on, if any."""

    def __init__(self, program: Path, folder: Path, core: str = LOAD_CORE) -> None:
        self._program, self._folder = program, folder
        self._pinned = ["taskset", "-c", core] if core else []

    def start(self, mode: str, port: int, request: bytes, **options: Any) -> subprocess.Popen[str]:
        """Start it; options are its flags."""
        file = self._folder / f"{mode}.request"
        file.write_bytes(request)
        flags = [text for name, value in options.items() for text in (f"--{name}", str(value))]
        command = [*self._pinned, str(self._program), mode, "--port", str(port), "--request", str(file), *flags]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    def run(self, mode: str, port: int, request: bytes, cpu_us: Callable[[], int], **options: Any) -> Load:
        """Run it to its end, with the processor time of somebody else between the marks. Raises LoadFailed."""
        process = self.start(mode, port, request, **options)
        try:
            begin, before = next_line(process), cpu_us()
            end, after = next_line(process), cpu_us()
            return parse(begin, end, after - before)
        finally:
            process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()


def next_line(process: subprocess.Popen[str]) -> dict[str, Any]:
    """Return the generator's next line. Raises LoadFailed."""
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise LoadFailed(f"the load generator ended with {process.wait()}")
    content: dict[str, Any] = json.loads(line)
    return content
