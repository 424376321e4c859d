"""A cluster of a benchmark's own on this machine, out of the way of what is measured."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from bench.wire.processes import LOAD_CORE, tree
from bench.wire.programs import say
from e2e.cluster import Cluster, cgroups
from e2e.cluster.layout import Layout

ROOT = Path(__file__).resolve().parents[1]
PRECEDENCE = -10
# What a group with that precedence has beside others, of v1 and of v2.
SHARES = {"cpu.shares": 9548, "cpu.weight": 930}


def prepare_process() -> None:
    """End on SIGTERM as on Ctrl-C, have many files, and go before whatever else this machine does."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with contextlib.suppress(PermissionError):
        os.nice(PRECEDENCE)
    precede([os.getpid()])


def precede(pids: Iterable[int]) -> None:
    """Let the sessions of processes go before others: a kernel that groups by session heeds no less."""
    for pid in pids:
        with contextlib.suppress(OSError):
            Path(f"/proc/{pid}/autogroup").write_text(str(PRECEDENCE))


def favour(cluster: Cluster) -> None:
    """Let a cluster's processes, and its pods, go before whatever else this machine does."""
    precede(tree(cluster.record.pid))
    for root in cgroups.hierarchies():
        for name, share in SHARES.items():
            file = root / Layout.of(cluster.name).cgroup / name
            if file.exists():
                file.write_text(str(share))


@contextlib.contextmanager
def local_cluster(name: str) -> Iterator[Cluster]:
    """Start a cluster, keep its processes on the load generator's core, and take it down."""
    cluster = Cluster(name)
    try:
        cluster.up(say=say)
        favour(cluster)
        for pid in tree(cluster.record.pid):
            pin(pid, LOAD_CORE)
        yield cluster
    finally:
        cluster.down()


def pin(pid: int, core: str) -> None:
    """Keep every thread of a process, and what it starts, on a core."""
    for task in Path(f"/proc/{pid}/task").glob("*"):
        with contextlib.suppress(OSError):
            os.sched_setaffinity(int(task.name), {int(core)})


def run_again_inside(cluster: Cluster, module: str, arguments: list[str]) -> int:
    """Run a module in the cluster's network with this process's output, and return its exit status."""
    command = [sys.executable, "-m", module, *arguments]
    process = cluster.run_inside(command, cwd=ROOT)
    try:
        return process.wait()
    except BaseException:
        # It ends what it has started when it is asked to.
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(30)
        raise
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
