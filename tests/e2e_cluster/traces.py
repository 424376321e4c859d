"""What a cluster could leave on a machine: processes, mounts, interfaces, control groups and files."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from e2e.cluster import cgroups

# Where the components write when nothing tells them otherwise.
FOLDERS = ("/etc", "/etc/cni", "/opt", "/run", "/run/netns", "/usr/libexec", "/var/lib", "/var/log", "/var/run", "/tmp")
OTHERS = re.compile(r"pytest|tmp|systemd|ssl|ruff|mypy|zt|go-build|uv-|helm|chart|zerotide")


@dataclass(frozen=True)
class Traces:
    """Everything of the machine that a cluster named `name` might have changed."""

    processes: frozenset[str]
    mounts: frozenset[str]
    interfaces: frozenset[str]
    groups: frozenset[str]
    files: frozenset[str]

    def left_since(self, before: Traces) -> dict[str, list[str]]:
        """Return what is there now and was not before, by kind; kinds without any are absent."""
        kinds = ("processes", "mounts", "interfaces", "groups", "files")
        new = {kind: sorted(getattr(self, kind) - getattr(before, kind)) for kind in kinds}
        return {kind: found for kind, found in new.items() if found}


def take(name: str) -> Traces:
    """Look at the machine; what is plainly another cluster's or another program's temporary file is not counted."""
    mounts = Path("/proc/self/mounts").read_text().splitlines()
    return Traces(
        processes=frozenset(_processes(name)),
        mounts=frozenset(line for line in mounts if name in line or "kubelet" in line or "containerd" in line),
        interfaces=frozenset(path.name for path in Path("/sys/class/net").iterdir()),
        groups=frozenset(str(path) for root in cgroups.hierarchies() for path in root.glob(f"*{name}*")),
        files=frozenset(_files(name)),
    )


def _processes(name: str) -> list[str]:
    """List the processes whose command line, or any open file, belongs to the cluster."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            files = [str(entry.readlink()) for entry in (folder / "fd").iterdir()]
        except OSError:
            continue
        mine = int(folder.name) == os.getpid()
        if not mine and (f"/{name}/" in command or any(f"/{name}/" in file for file in files)):
            found.append(f"{folder.name}: {command.strip()}")
    return found


def _files(name: str) -> list[str]:
    found = []
    for folder in map(Path, FOLDERS):
        entries = list(folder.iterdir()) if folder.is_dir() else []
        found += [str(entry) for entry in entries if not OTHERS.search(entry.name)]
    state = Path(os.environ.get("ZEROTIDE_STATE") or "/var/lib/zerotide")
    return found + [str(path) for path in state.glob(f"*{name}*")]
