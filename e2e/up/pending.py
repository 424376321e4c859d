"""What an installation that was killed midway leaves behind: a release that Helm takes for busy for ever.

The record of the revision that was never finished is removed. So the next `helm upgrade --install` goes on from the
last one that was, and takes over what this one had made already; nothing that runs is touched.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

from e2e.up.errors import StepFailed
from e2e.up.progress import capture

PENDING = ("pending-install", "pending-upgrade", "pending-rollback")
PATIENCE = 600.0
"""Seconds after which a release that is busy elsewhere is taken for left: twice as long as we let Helm work."""


@contextlib.contextmanager
def alone(folder: Path, say: Callable[[str], None]) -> Iterator[int]:
    """Be the only one of this checkout that installs; yield the lock, which programs that inherit it keep alive."""
    folder.mkdir(parents=True, exist_ok=True)
    lock = os.open(folder / "install.lock", os.O_CREAT | os.O_RDWR)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another installation is at work on this cluster: waiting until it is over")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield lock
    finally:
        os.close(lock)


def forget_unfinished(
    release: str, namespace: str, environment: dict[str, str], say: Callable[[str], None], *, ours: bool
) -> None:
    """Remove the record of a revision that was never finished, and say so.

    `ours` tells that only this checkout installs there, so that nobody can be at work on it: else it must be old.
    Raises StepFailed where somebody may be.
    """
    selector = f"owner=helm,name={release},status in ({','.join(PENDING)})"
    found = json.loads(
        capture(["kubectl", "get", "secrets", "-n", namespace, "-l", selector, "-o", "json"], environment)
    )
    for record in found["items"]:
        labels, name = record["metadata"]["labels"], record["metadata"]["name"]
        told = f"revision {labels['version']} of the release {release} is left {labels['status']}"
        age = time.time() - datetime.fromisoformat(record["metadata"]["creationTimestamp"]).timestamp()
        if not ours and age < PATIENCE:
            raise StepFailed(
                f"{told} since {age:.0f} s: wait until whoever does that is done, or try again in "
                f"{PATIENCE - age:.0f} s, when it is taken for killed"
            )
        say(
            f"{told} by an installation that was killed: its record is removed, and the installation goes on from there"
        )
        capture(["kubectl", "delete", "secret", "-n", namespace, name], environment)
