"""Processor time per process, from the kernel's own count in nanoseconds: Zerotide's, Knative's, the cluster's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from bench.knative import serving as knative
from e2e.harness import MODULES, Json, System

CLUSTER = {"etcd", "kube-apiserver", "kubelet", "kube-controller-manager", "kube-scheduler"}
STANDBY = "operator standing by"
NAMESPACES = ("zerotide-system", knative.NAMESPACE)


class Meter:
    """The processes of what is installed, and of its local cluster, by name."""

    def __init__(self, system: System) -> None:
        lease = system.get("lease", "zerotide-operator", "-n", "zerotide-system")
        leader = str((lease.get("spec") or {}).get("holderIdentity"))
        pods = [pod for space in NAMESPACES for pod in system.get("pods", "-n", space)["items"]]
        self._processes: dict[int, str] = {}
        for pid, words, group in _processes():
            pod = next((pod["metadata"] for pod in pods if pod["metadata"]["uid"] in group), None)
            name = _of_pod(pod, words, leader) if pod is not None else _of_cluster(words, str(system.kubeconfig.parent))
            if name:
                self._processes[pid] = name

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


def _of_pod(pod: Json, words: list[str], leader: str) -> str:
    """Return what a pod's process counts as; nothing for one beside the pod's own program."""
    program = Path(words[0]).name
    if pod["namespace"] == knative.NAMESPACE:
        return f"knative {program}" if program == pod["labels"]["app"] else ""
    if not any(f"zerotide.{module}" in words for module in MODULES.values()):
        return ""
    name = str(pod["labels"]["app.kubernetes.io/component"])
    return STANDBY if name == "operator" and pod["name"] not in leader else name


def _of_cluster(words: list[str], state: str) -> str:
    """Return what a process of the cluster with this folder counts as; nothing for any other."""
    program = Path(words[0]).name
    return program if program in CLUSTER and state in " ".join(words) else ""


def _processes() -> Iterator[tuple[int, list[str], str]]:
    for process in Path("/proc").iterdir():
        try:
            if process.name.isdigit():
                words = (process / "cmdline").read_text(errors="replace").split("\0")
                yield int(process.name), words, (process / "cgroup").read_text()
        except OSError:
            continue  # it ended meanwhile
