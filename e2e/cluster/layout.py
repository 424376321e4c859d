"""Where a cluster keeps its things, and the few facts that outlive a start.

Everything lies below one folder, so that removing it removes the cluster. Only `run/` is emptied at each start:
it holds what a reboot would lose (sockets, the container runtime's live state, address leases).
"""

from __future__ import annotations

import json
import os
import random
import re
import socket
from dataclasses import asdict, dataclass
from pathlib import Path

from e2e.cluster.errors import BadName, ClusterError

NODE_ADDRESS = "10.89.0.2"
SERVICE_RANGE = "10.96.0.0/16"
API_SERVICE_ADDRESS = "10.96.0.1"
DNS_SERVICE_ADDRESS = "10.96.0.10"
POD_RANGE = "10.244.0.0/16"
DOMAIN = "cluster.local"

# Below Linux's ephemeral range, so that no outgoing connection of the host takes a forwarded port.
PORTS = range(20000, 32000)


def state_root() -> Path:
    """Return the folder that holds every cluster of this machine."""
    return Path(os.environ.get("ZEROTIDE_STATE") or "/var/lib/zerotide")


@dataclass(frozen=True)
class Layout:
    """The paths of one cluster."""

    name: str
    root: Path

    @classmethod
    def of(cls, name: str) -> Layout:
        """Return the layout of a named cluster. Raises BadName."""
        if not re.fullmatch(r"[a-z]([-a-z0-9]{0,28}[a-z0-9])?", name):
            raise BadName(f"cluster name {name!r}: use at most 30 lower-case letters, digits and dashes")
        return cls(name, state_root() / name)

    @property
    def record(self) -> Path:
        return self.root / "cluster.json"

    @property
    def lock(self) -> Path:
        return self.root.with_name(f".{self.name}.lock")

    @property
    def logs(self) -> Path:
        return self.root / "log"

    @property
    def pki(self) -> Path:
        return self.root / "pki"

    @property
    def config(self) -> Path:
        return self.root / "config"

    @property
    def run(self) -> Path:
        return self.root / "run"

    @property
    def volumes(self) -> Path:
        return self.root / "volumes"

    @property
    def kubeconfig(self) -> Path:
        return self.root / "kubeconfig"

    @property
    def inside_kubeconfig(self) -> Path:
        return self.root / "kubeconfig.inside"

    @property
    def containerd_socket(self) -> Path:
        return self.run / "containerd.sock"

    @property
    def cgroup(self) -> str:
        """Return the cluster's own control group, below every hierarchy's root."""
        return f"zerotide.{self.name}"

    def inside(self, component: str) -> Path:
        """Return the kubeconfig of one component, inside the cluster's network."""
        return self.config / f"{component}.kubeconfig"


@dataclass(frozen=True)
class Record:
    """What a running (or killed) cluster is: its ports outside, its first process, and the time it started."""

    api_port: int
    gateway_port: int
    gpus: int
    pid: int = 0
    started: str = ""
    since: str = ""

    @classmethod
    def load(cls, layout: Layout) -> Record | None:
        """Return the saved record, or None when there is none that can be read."""
        try:
            return cls(**json.loads(layout.record.read_text()))
        except (OSError, ValueError, TypeError):
            return None

    def save(self, layout: Layout) -> None:
        """Write the record in one step."""
        part = layout.record.with_suffix(".part")
        part.write_text(json.dumps(asdict(self), indent=2) + "\n")
        part.rename(layout.record)

    @property
    def alive(self) -> bool:
        """Say whether the cluster's first process still runs (and is not another one with its number)."""
        return self.pid > 0 and process_start(self.pid) == self.started


def process_start(pid: int) -> str:
    """Return what tells a process from a later one of the same number; empty when it is gone or a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return "" if fields[0] in "ZX" else f"{boot}/{fields[19]}"


def listen(port: int) -> socket.socket:
    """Return a socket that listens on a loopback port; 0 takes a free one. Raises ClusterError."""
    candidates = [port] if port else random.sample(PORTS, 200)
    for candidate in candidates:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", candidate))
        except OSError:
            listener.close()
            continue
        listener.listen(512)
        return listener
    raise ClusterError(f"port {port or PORTS} on 127.0.0.1 is taken by another process; stop it, or remove the cluster")
