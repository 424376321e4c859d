"""An installed Zerotide, and a client inside the cluster's network that measures on command."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench.local import favour
from bench.wake.cpu import Meter
from bench.wake.table import Measured
from bench.wake.target import Target
from bench.wire.programs import say
from e2e.cluster import Cluster
from e2e.harness import System
from e2e.install import install

ROOT = Path(__file__).resolve().parents[2]
CALM = 2.0
"""Seconds without a start or an end before each measurement."""


@dataclass
class Inside:
    """A process in the cluster's network that measures on command."""

    system: System
    process: subprocess.Popen[str]

    def __post_init__(self) -> None:
        self._meter = Meter(self.system)

    def _ask(self, **command: Any) -> Measured:
        assert self.process.stdin is not None
        # The last pod is still being tidied away, by the kubelet and by us.
        time.sleep(CALM)
        before = self._meter.look()
        self.process.stdin.write(json.dumps(command) + "\n")
        self.process.stdin.flush()
        seconds = float(self._answer()["seconds"])
        after = self._meter.look()
        rest = self._answer()
        cpu = {name: after[name] - before[name] for name in before}
        return Measured(seconds, rest.get("stages") or {}, rest["marks"], cpu)

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError("the client inside the cluster ended; its error is above")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def floor_deployment(self, namespace: str, endpoint: str) -> None:
        """Make the bare Deployment that the floor is measured with: an endpoint's pod, of no endpoint."""
        pod = self.system.get("deployment", endpoint, "-n", namespace)["spec"]["template"]["spec"]
        labels = {"app": "floor"}
        spec = {
            "replicas": 0,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": pod},
        }
        metadata = {"namespace": namespace, "name": "floor"}
        self.system.apply({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec})

    def floor(self, namespace: str) -> Measured:
        """Measure from a bare scale patch to the first byte by the pod's IP."""
        return self._ask(op="floor", namespace=namespace)

    def wake(self, target: Target) -> Measured:
        """Measure from a request's first byte to its answer's first byte."""
        return self._ask(op="wake", target=asdict(target))

    def herd(self, target: Target, count: int) -> Measured:
        """Measure from the first of so many connections to the last answer; a mark says when the first came."""
        return self._ask(op="herd", target=asdict(target), count=count)


@contextmanager
def installed(name: str = "zerotide-bench") -> Iterator[tuple[Cluster, System]]:
    """Start a cluster of its own, install Zerotide, yield both, and take everything down again."""
    cluster = Cluster(name)
    try:
        cluster.up(say=say)
        favour(cluster)
        yield cluster, install(cluster)
    finally:
        cluster.down()


@contextmanager
def measuring(cluster: Cluster, system: System) -> Iterator[Inside]:
    """Have a process in the cluster's network that measures; what runs in the cluster by now is metered."""
    command = [sys.executable, "-m", "bench.wake.inside"]
    process = cluster.run_inside(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    try:
        yield Inside(system, process)
    finally:
        process.terminate()
        process.wait(10)
