"""Files that are either there whole or not at all, whenever the process or the machine dies."""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PART = ".part"
"""What the names of files end in that are not whole yet."""


class Disk:
    """The steps by which a file becomes durable; each may be the last thing that a process does."""

    def sync(self, path: Path) -> None:
        """Wait until a file, or a folder's names, are on the disk."""
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

    def rename(self, part: Path, path: Path) -> None:
        """Give a whole file its name."""
        part.rename(path)

    def remove(self, path: Path) -> None:
        """Remove a file."""
        path.unlink(missing_ok=True)

    def publish(self, part: Path, path: Path) -> None:
        """Give a file that was written its name, once it is on the disk."""
        self.sync(part)
        self.rename(part, path)
        self.sync(path.parent)

    def folder(self, path: Path) -> None:
        """Make a folder, with those above it that are missing."""
        missing = [each for each in (path, *path.parents) if not each.exists()]
        for each in reversed(missing):
            each.mkdir(exist_ok=True)
            self.sync(each.parent)


def digest(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def locked(folder: Path) -> Iterator[bool]:
    """Hold a folder's lock, which ends with the process; yield False where another process has it."""
    with (folder / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
