"""Find out before a start what would make it fail in a way that is hard to understand."""

from __future__ import annotations

import contextlib
import ctypes
import os
from pathlib import Path

from e2e.cluster.errors import Exhausted

# A cluster's components watch their files with about twenty; the kernel allows each user 128 by default.
INOTIFY_INSTANCES = 24
LIMIT = Path("/proc/sys/fs/inotify/max_user_instances")


def check_inotify(needed: int = INOTIFY_INSTANCES) -> None:
    """Raise Exhausted when this user has too few inotify instances left for another cluster."""
    libc = ctypes.CDLL(None, use_errno=True)
    limit = LIMIT.read_text().strip()
    with contextlib.ExitStack() as stack:
        for _ in range(needed):
            descriptor = libc.inotify_init1(os.O_CLOEXEC)
            if descriptor < 0:
                raise Exhausted(
                    f"another cluster needs about {needed} inotify instances; the {limit} that are allowed "
                    "are used up: stop another cluster, or run: sysctl fs.inotify.max_user_instances=512"
                )
            stack.callback(os.close, descriptor)
