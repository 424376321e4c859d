"""What the held benchmark waits for: the gauge of held requests, a process at rest, a request that is held."""

from __future__ import annotations

import asyncio
import socket
import time
import urllib.request
from collections.abc import Callable

GAUGE = "zerotide_held_requests"


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
