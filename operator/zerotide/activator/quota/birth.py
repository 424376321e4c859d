"""When a process began, as the ledger is told: later than any before it, whatever became of the node's clock.

The exporter knows by it which of two processes in one place is the successor. The time of the last one is kept beside
the usage log, which a container that starts anew inherits.
"""

from __future__ import annotations

import logging
from pathlib import Path

log = logging.getLogger(__name__)

FILE = "born"


def birth(folder: Path, now_us: int) -> int:
    """Return when the process that owns a folder from now on began, and keep it there."""
    file, fresh = folder / FILE, folder / f"{FILE}.new"
    born_us = max(now_us, _last(file) + 1)
    try:
        fresh.write_text(str(born_us), encoding="ascii")
        fresh.replace(file)
    except OSError as error:
        log.warning("when this process began is not kept", extra={"error": str(error)})
    return born_us


def _last(file: Path) -> int:
    try:
        return int(file.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return 0
