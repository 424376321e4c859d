"""One process at a time puts something on this machine: tests run side by side and may miss the same thing."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager

from e2e.setup.venvs import CACHE


@contextmanager
def alone() -> Iterator[None]:
    """Hold off every other process that installs, until left; look again inside whether anything is missing."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "installing.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
