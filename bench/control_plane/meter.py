"""Processor time of the processes that take part, by name."""

from __future__ import annotations

from pathlib import Path

from bench.wake.cpu import CLUSTER, spent
from bench.wire.processes import Running, tree

OTHERS = {*CLUSTER, "kube-proxy", "coredns"}


class Meter:
    """The processes of a cluster, by its first one's number, and of the benchmark's own."""

    def __init__(self, own: list[Running]) -> None:
        self._processes: dict[int, str] = {pid: each.name for each in own for pid in tree(each.process.pid)}
        for process in Path("/proc").iterdir():
            if process.name.isdigit() and (name := _of_cluster(process)):
                self._processes[int(process.name)] = name

    def look(self) -> dict[str, float]:
        """Return the seconds that each has run so far."""
        seconds: dict[str, float] = {}
        for pid, name in self._processes.items():
            seconds[name] = seconds.get(name, 0.0) + spent(pid)
        return seconds


def between(before: dict[str, float], after: dict[str, float]) -> dict[str, float]:
    """Return the seconds that each ran between two looks."""
    return {name: seconds - before.get(name, 0.0) for name, seconds in after.items()}


def _of_cluster(process: Path) -> str:
    """Return the name of a component that shares this process's network; nothing for any other process."""
    try:
        here = (process / "ns/net").readlink() == Path("/proc/self/ns/net").readlink()
        program = Path((process / "cmdline").read_text(errors="replace").split("\0")[0]).name
    except OSError:
        return ""  # it ended meanwhile
    return program if here and program in OTHERS else ""
