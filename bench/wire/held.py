"""What the held benchmark waits for and says: the gauge of held requests, a process at rest, the table, the RESULT."""

from __future__ import annotations

import asyncio
import socket
import statistics
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from bench.wire.load import Load, LoadFailed

GAUGE = "zerotide_held_requests"


@dataclass
class Outcome:
    """What one that holds has shown: instants after the address in ms, bytes for each of the many."""

    first_ms: list[float] = field(default_factory=list)
    last_ms: list[float] = field(default_factory=list)
    held: int = 0
    bytes_each: float = 0.0
    idle_bytes: int = 0
    others: dict[int, int] = field(default_factory=dict)

    def released(self, load: Load, appeared_us: float) -> None:
        """Count a release."""
        self.first_ms.append((load.first_us - appeared_us) / 1e3)
        self.last_ms.append((load.last_us - appeared_us) / 1e3)

    def keeps(self, held: int, size: int, load: Load) -> None:
        """Count what many took, and the answers but 200 that they got once all went to one replica at once."""
        self.held, self.bytes_each = held, size / held
        lost = {0: load.failed} if load.failed else {}
        self.others = lost | {status: count for status, count in load.statuses.items() if status != 200}


@dataclass(frozen=True)
class Bounded:
    """The resident memory before and after clients came for a while to a full endpoint, and what they were told."""

    bound: int
    before: int
    after: int
    load: Load

    def checked(self) -> Bounded:
        """Return itself if every client was told 429. Raises LoadFailed."""
        if self.load.failed or set(self.load.statuses) != {429}:
            raise LoadFailed(f"a full endpoint: {self.load.failed} failed, statuses {self.load.statuses}")
        return self

    def line(self) -> str:
        """Return it as a sentence."""
        came = f"{self.load.answered:,} more came in {self.load.seconds:.0f} s and got 429"
        return (
            f"bounded at {self.bound:,} held: {came}; "
            f"RSS {self.before / 2**20:.1f} MiB before, {self.after / 2**20:.1f} MiB after"
        )


def gauge(page: str, name: str = GAUGE) -> int:
    """Return the sum of a gauge's samples on a page of figures; 0 where there is none."""
    return sum(int(float(line.rsplit(" ", 1)[1])) for line in page.splitlines() if line.startswith(f"{name}{{"))


async def until_gauge(admin: int, count: int, timeout: float = 60.0) -> None:
    """Return when the activator says that it holds so many. Raises TimeoutError."""
    deadline = time.monotonic() + timeout
    while (held := gauge(await asyncio.to_thread(_page, admin))) != count:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{held} requests are held after {timeout:.0f} s, not {count}")
        await asyncio.sleep(0.1)


async def until_quiet(cpu_us: Callable[[], int], timeout: float = 60.0, window: float = 0.5) -> None:
    """Return when a process has had next to nothing to do for half a second. Raises TimeoutError."""
    deadline, before = time.monotonic() + timeout, cpu_us()
    while True:
        await asyncio.sleep(window)
        now = cpu_us()
        if now - before <= window * 1e6 * 0.06:
            return
        if time.monotonic() > deadline:
            raise TimeoutError(f"a process is still busy after {timeout:.0f} s")
        before = now


async def until_holding(port: int, request: bytes, timeout: float = 20.0, patience: float = 0.4) -> None:
    """Return when a request is not answered any more, because it is held; it is given up then. Raises TimeoutError."""
    deadline = time.monotonic() + timeout
    while await asyncio.to_thread(_answered, port, request, patience):
        if time.monotonic() > deadline:
            raise TimeoutError(f"port {port} still answers after {timeout:.0f} s, though the address is gone")
        await asyncio.sleep(0.05)


def result(ours: Outcome, knative: Outcome) -> dict[str, Any]:
    """Return what the RESULT line says."""
    return {
        "held": ours.held,
        "bytes_per_held": round(ours.bytes_each),
        "first_ms": round(statistics.median(ours.first_ms), 1),
        "last_ms": round(statistics.median(ours.last_ms), 1),
        "knative_first_ms": round(statistics.median(knative.first_ms), 1),
        "knative_last_ms": round(statistics.median(knative.last_ms), 1),
    }


def table(outcomes: dict[str, Outcome]) -> str:
    """Return the table."""
    lines = [f"{'':10}{'first ms':>10}{'last ms':>10}{'held':>9}{'bytes each':>12}{'idle MiB':>10}  not 200"]
    for name, it in outcomes.items():
        spans = f"{statistics.median(it.first_ms):10.1f}{statistics.median(it.last_ms):10.1f}"
        lines.append(f"{name:10}{spans}{it.held:9,}{it.bytes_each:12,.0f}{it.idle_bytes / 2**20:10.1f}  {others(it)}")
    return "\n".join(lines)


def others(outcome: Outcome) -> str:
    """Return what the many got but 200, as text."""
    named = (f"{count} {status or 'closed'}" for status, count in sorted(outcome.others.items()))
    return ", ".join(named) or "none"


def _page(admin: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{admin}/metrics", timeout=10) as answer:
        return str(answer.read(), "utf-8")


def _answered(port: int, request: bytes, patience: float) -> bool:
    with socket.create_connection(("127.0.0.1", port), 10) as connection:
        connection.sendall(request)
        connection.settimeout(patience)
        try:
            connection.recv(4096)
        except TimeoutError:
            return False
        return True
