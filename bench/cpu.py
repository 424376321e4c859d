"""Processor time per process, from the kernel's own count in nanoseconds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from e2e.harness import MODULES, System

CLUSTER = {"etcd", "kube-apiserver", "kubelet", "kube-controller-manager", "kube-scheduler"}
STANDBY = "operator standing by"


class Meter:
    """The processes of an installed Zerotide and of its local cluster, by name."""

    def __init__(self, system: System, namespace: str = "zerotide-system") -> None:
        lease = system.get("lease", "zerotide-operator", "-n", namespace)
        leader = str((lease.get("spec") or {}).get("holderIdentity"))
        pods = {pod["metadata"]["uid"]: pod["metadata"] for pod in system.get("pods", "-n", namespace)["items"]}
        self._processes: dict[int, str] = {}
        for pid, words, group in _processes():
            pod = next((pod for uid, pod in pods.items() if uid in group), None)
            if pod is None and Path(words[0]).name in CLUSTER and str(system.kubeconfig.parent) in " ".join(words):
                self._processes[pid] = Path(words[0]).name
            elif pod is not None and any(f"zerotide.{module}" in words for module in MODULES.values()):
                name = pod["labels"]["app.kubernetes.io/component"]
                stands_by = name == "operator" and pod["name"] not in leader
                self._processes[pid] = STANDBY if stands_by else name

    def look(self) -> dict[str, float]:
        """Return the seconds that each has run so far; those of one name are summed."""
        seconds: dict[str, float] = {}
        for pid, name in self._processes.items():
            seconds[name] = seconds.get(name, 0.0) + spent(pid)
        return seconds


def spent(pid: int) -> float:
    """Return the seconds that all threads of a process have run, 0 for one that is gone."""
    total = 0
    for thread in Path(f"/proc/{pid}/task").glob("*/schedstat"):
        try:
            total += int(thread.read_text().split()[0])
        except OSError:
            continue  # the thread ended meanwhile
    return total / 1e9


def _processes() -> Iterator[tuple[int, list[str], str]]:
    for process in Path("/proc").iterdir():
        try:
            if process.name.isdigit():
                words = (process / "cmdline").read_text(errors="replace").split("\0")
                yield int(process.name), words, (process / "cgroup").read_text()
        except OSError:
            continue  # it ended meanwhile
