"""Make and remove a cluster's own control groups, on v1 hierarchies mounted one by one and on v2.

In v2 a group hands controllers on only while it holds no process itself, the machine's root aside. The root that a
container sees is such a group: there its processes go into a group of their own, and back with the last cluster.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import time
from pathlib import Path

MOUNT = Path("/sys/fs/cgroup")
V2_CONTROLLERS = ("cpu", "cpuset", "io", "memory", "pids", "hugetlb")
ASIDE = "zerotide-aside"
"""Where the processes of a container's root group wait for the last cluster's end."""
PREFIX = "zerotide."


def hierarchies() -> list[Path]:
    """List the roots of the mounted control group hierarchies."""
    found: list[Path] = []
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, where, kind, *_ = line.split()
        if kind in ("cgroup", "cgroup2") and Path(where) not in found:
            found.append(Path(where))
    return found


def make(name: str) -> None:
    """Make the group in every hierarchy, with what a child needs before a process may join it."""
    for root in hierarchies():
        group = root / name
        group.mkdir(exist_ok=True)
        for file in ("cpuset.cpus", "cpuset.mems"):
            own = group / file
            if own.exists() and not own.read_text().strip() and (root / file).exists():
                own.write_text((root / file).read_text())
        if (root / "cgroup.controllers").exists() and root == MOUNT:
            delegate_root(root)
            _delegate(group)


def delegate_root(root: Path) -> None:
    """Let the groups below a v2 root have controllers, even where the root holds processes. Raises OSError."""
    try:
        _delegate(root)
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise
        aside = root / ASIDE
        aside.mkdir(exist_ok=True)
        _move(root, aside)
        _delegate(root)


def give_back(root: Path) -> None:
    """Put the processes of a v2 root back once no cluster has a group there. Raises OSError."""
    aside = root / ASIDE
    if not aside.exists() or any(root.glob(f"{PREFIX}*")):
        return
    try:
        for controller in (root / "cgroup.subtree_control").read_text().split():
            _control(root, f"-{controller}")
        _move(aside, root)
        aside.rmdir()
    except OSError as error:
        # Somebody else has groups there by now that need the controllers: so the processes stay aside.
        if error.errno != errno.EBUSY:
            raise


def _delegate(group: Path) -> None:
    available = (group / "cgroup.controllers").read_text().split()
    enabled = (group / "cgroup.subtree_control").read_text().split()
    for controller in V2_CONTROLLERS:
        if controller in available and controller not in enabled:
            _control(group, f"+{controller}")


def _control(group: Path, change: str) -> None:
    (group / "cgroup.subtree_control").write_text(change)


def _move(source: Path, target: Path) -> None:
    """Move all processes, also those that are born meanwhile."""
    while pids := (source / "cgroup.procs").read_text().split():
        moved = 0
        for pid in pids:
            # One that ended meanwhile is not there any more, and a thread of the kernel stays where it is.
            with contextlib.suppress(OSError):
                _place(pid, target)
                moved += 1
        if not moved:
            return


def _place(pid: str, group: Path) -> None:
    (group / "cgroup.procs").write_text(pid)


def remove(name: str, patience: float = 10.0) -> None:
    """Kill what is left in the group and remove it, deepest first. Raises OSError when it stays busy."""
    for root in hierarchies():
        group = root / name
        deadline = time.monotonic() + patience
        while group.exists():
            _kill(group)
            try:
                _remove_tree(group)
            except OSError:
                # A killed process leaves its group a moment after its death, and nothing tells when.
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)
        if root == MOUNT:
            give_back(root)


def _remove_tree(group: Path) -> None:
    for folder, _, _ in os.walk(group, topdown=False):
        Path(folder).rmdir()


def _kill(group: Path) -> None:
    for procs in group.rglob("cgroup.procs"):
        try:
            pids = procs.read_text().split()
        except OSError:
            continue
        for pid in pids:
            if int(pid) not in (0, os.getpid()):
                try:
                    os.kill(int(pid), signal.SIGKILL)
                except ProcessLookupError:
                    continue
