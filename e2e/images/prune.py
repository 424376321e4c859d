"""Keep the image storage small: what the newest build of no image uses any more is removed.

buildah keeps every layer that it ever made, so that it can use it again. Those of the newest builds are named in
their logs; the others are of states of the tree that are gone.
"""

from __future__ import annotations

import contextlib
import fcntl
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

from e2e.images.storage import buildah, folder


@contextlib.contextmanager
def building() -> Iterator[None]:
    """Keep others from removing anything while something is built."""
    with _lock() as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        yield


def prune() -> int:
    """Remove what no newest build uses and what broken builds left; return how many images went.

    While somebody builds, nothing is removed: whoever builds last does it.
    """
    with _lock() as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return 0
        subprocess.run(buildah("rm", "--all"), capture_output=True)
        listed = subprocess.run(buildah("images", "-q", "--no-trunc", "--filter", "dangling=true"), capture_output=True)
        logs = [log.read_text(errors="replace") for log in (folder() / "log").glob("*.log")]
        unused = superseded(listed.stdout.decode().split(), logs)
        if unused:
            # One that something else is still built on is refused, which is right.
            subprocess.run(buildah("rmi", *unused), capture_output=True)
        return len(unused)


def superseded(images: list[str], logs: list[str]) -> list[str]:
    """List the images that no log names; logs shorten ids, with or without the algorithm in front."""
    named = {found for log in logs for found in re.findall(r"\b[0-9a-f]{11,64}\b", log)}
    return [image for image in images if not any(image.removeprefix("sha256:").startswith(name) for name in named)]


@contextlib.contextmanager
def _lock() -> Iterator[int]:
    path: Path = folder() / "storage.lock"
    with path.open("a") as file:
        yield file.fileno()
