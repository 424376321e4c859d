"""What benchmarks share: an installed Zerotide and a client inside the cluster's network."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from bench.cpu import Meter
from e2e.cluster import Cluster
from e2e.harness import System
from e2e.install import install

ROOT = Path(__file__).resolve().parents[1]
CALM = 2.0
"""Seconds without a start or an end before each measurement."""


class Measured(NamedTuple):
    """Seconds: as a whole, by stage, until a watch showed each step, and of processor by process meanwhile."""

    seconds: float
    stages: dict[str, float]
    marks: dict[str, float]
    cpu: dict[str, float]


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

    def wake(self, namespace: str, name: str, key: str) -> Measured:
        """Measure from a request's first byte to its answer's first byte, through the gateway."""
        return self._ask(op="wake", namespace=namespace, name=name, key=key)


@contextmanager
def installed(name: str = "zerotide-bench") -> Iterator[tuple[System, Inside]]:
    """Start a cluster of its own, install Zerotide, yield both, and take everything down again."""
    cluster = Cluster(name)
    cluster.up(say=lambda text: print(text, file=sys.stderr))
    try:
        system = install(cluster)
        command = [sys.executable, "-m", "bench.inside"]
        process = cluster.run_inside(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)
        try:
            yield system, Inside(system, process)
        finally:
            process.terminate()
            process.wait(10)
    finally:
        cluster.down()
