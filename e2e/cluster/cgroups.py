"""Make and remove a cluster's own control groups, on v1 hierarchies mounted one by one and on v2."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

MOUNT = Path("/sys/fs/cgroup")
V2_CONTROLLERS = ("cpu", "cpuset", "io", "memory", "pids", "hugetlb")


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
            _delegate(root)
            _delegate(group)


def _delegate(group: Path) -> None:
    available = (group / "cgroup.controllers").read_text().split()
    for controller in V2_CONTROLLERS:
        if controller in available:
            (group / "cgroup.subtree_control").write_text(f"+{controller}")


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
