"""Knative Serving as a whole in a local cluster: installed from its programs and manifests, with a revision at zero."""

from __future__ import annotations

import json
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from bench.knative import manifests
from bench.knative.install import PROGRAMS, VERSION, beside, programs, sources
from bench.knative.manifests import BESIDE, Json
from bench.wire.programs import say
from e2e.cluster import Cluster
from e2e.harness import System, wait_until
from e2e.images.archive import write_archive

NAMESPACE = "knative-serving"
# Seconds: its processes start within 15 on two idle cores; a revision sleeps within 40.
PATIENCE = 180.0


def install(cluster: Cluster, system: System) -> None:
    """Put Knative Serving into a cluster and wait until its processes are available. Raises ToolError, WaitTimedOut."""
    started = time.monotonic()
    found = programs(*PROGRAMS)
    with tempfile.TemporaryDirectory(prefix="bench-knative-") as folder:
        for name, program in found.items():
            archive = Path(folder) / f"{name}.tar"
            write_archive(archive, manifests.image(name, VERSION), name, program.read_bytes(), {"User": "65532:65532"})
            cluster.load_image(archive)
            archive.unlink()
    core = sources() / "config/core"
    files = [beside(module) / f"config/{name}.yaml" for module, names in BESIDE.items() for name in names]
    _apply(system, manifests.kinds(core, files))
    system.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
    _apply(system, manifests.parts(core, files, VERSION))
    wait_until("Knative's processes are ready", lambda: _available(system), PATIENCE, every=0.5)
    say(f"  Knative {VERSION}: {len(found)} images, all processes ready, {time.monotonic() - started:.0f} s")


def _apply(system: System, objects: list[Json]) -> None:
    items = {"apiVersion": "v1", "kind": "List", "items": objects}
    system.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=json.dumps(items))


def _available(system: System) -> bool:
    statuses = [each.get("status", {}) for each in system.get("deployments", "-n", NAMESPACE)["items"]]
    return bool(statuses) and all(status.get("availableReplicas") for status in statuses)


@dataclass(frozen=True)
class Revision:
    """One revision of a Knative Service, and what it runs as."""

    system: System
    namespace: str
    name: str

    @property
    def deployment(self) -> str:
        """Return its Deployment's name."""
        return f"{self.name}-deployment"

    @property
    def selector(self) -> str:
        """Return what selects its pods."""
        return f"serving.knative.dev/revision={self.name}"

    def wait_zero(self) -> None:
        """Wait until it has no pod. Raises WaitTimedOut."""
        wait_until(f"{self.name} at zero", self._scaled_down, PATIENCE, every=0.25)
        # Its sidecar would sleep for half a minute before it ends, though nobody calls.
        pods = ("pods", "-n", self.namespace, "-l", self.selector)
        self.system.kubectl("delete", *pods, "--grace-period=0", "--force")
        wait_until(f"{self.name} without a pod", lambda: not self.system.get(*pods)["items"], PATIENCE)

    def _scaled_down(self) -> bool:
        deployment = self.system.get("deployment", self.deployment, "-n", self.namespace)
        return bool(deployment) and deployment["spec"]["replicas"] == 0


def revision(system: System, namespace: str, name: str, image: str, *, token: bool = True) -> Revision:
    """Create a Knative Service and return its revision once that was ready. Raises WaitTimedOut."""
    made = json.dumps(manifests.service(namespace, name, image, token))

    def taken() -> bool:
        # Its webhook refuses everything until it has made its certificate.
        return system.try_kubectl("apply", "-f", "-", stdin=made).returncode == 0

    def ready() -> str | None:
        status = system.get("services.serving.knative.dev", name, "-n", namespace).get("status") or {}
        latest: str | None = status.get("latestReadyRevisionName")
        return latest

    wait_until(f"Knative takes the Service {name}", taken, PATIENCE, every=0.5)
    return Revision(system, namespace, wait_until(f"{name} has a ready revision", ready, PATIENCE))
