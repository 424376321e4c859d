"""A local cluster comes up, keeps to itself, survives a kill, and goes without a trace."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.cluster import Cluster
from e2e.cluster.errors import NotRunning
from e2e.cluster.layout import Layout, Record
from e2e.images.build import build
from tests.e2e_cluster import objects, traces

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def passing(local_cluster: Cluster) -> Iterator[Cluster]:
    """A cluster of the test's own, beside the shared one."""
    own = Cluster("zt-passing")
    own.down()
    yield own
    own.down()


def test_nothing_is_left_behind(passing: Cluster) -> None:
    """Processes, mounts, interfaces, control groups and files are as before, though a pod with a volume still ran."""
    before = traces.take(passing.name)
    passing.up(gpus=0)
    build(["trivial"], [passing])
    client = passing.client()
    place = objects.namespace(client)
    mounts = [{"name": "scratch", "mountPath": "/scratch"}]
    volumes = [{"name": "scratch", "emptyDir": {"medium": "Memory"}}]
    body = objects.pod("left", volumes=volumes, volumeMounts=mounts)
    objects.create(client, place, "pods", body)
    objects.phase(client, place, "left", "Running")
    during = traces.take(passing.name).left_since(before)
    assert {"processes", "groups", "files"} <= set(during), "the comparison sees what a cluster makes"
    passing.down()
    assert traces.take(passing.name).left_since(before) == {}


def test_two_clusters_run_side_by_side(local_cluster: Cluster, passing: Cluster) -> None:
    """Each has its own node, objects and pods, on the same addresses."""
    passing.up(gpus=1)
    build(["trivial"], [local_cluster, passing])
    addresses = []
    for one in (local_cluster, passing):
        client = one.client()
        place = objects.namespace(client)
        objects.create(client, place, "pods", objects.pod(f"in-{one.name}"))
        running = objects.phase(client, place, f"in-{one.name}", "Running")
        assert running["spec"]["nodeName"] == one.name
        addresses.append(running["status"]["hostIP"])
        client.delete(f"/api/v1/namespaces/{place}")
    assert addresses[0] == addresses[1]
    assert local_cluster.api_url != passing.api_url
    capacities = [
        c.client().call("GET", f"/api/v1/nodes/{c.name}")["status"]["capacity"] for c in (local_cluster, passing)
    ]
    assert [capacity["nvidia.com/gpu"] for capacity in capacities] == ["4", "1"]


def test_a_killed_cluster_comes_back_with_what_it_held(passing: Cluster) -> None:
    """Objects, images and ports survive, and pods run again, as after a node's power loss."""
    passing.up(gpus=2)
    build(["trivial"], [passing])
    client = passing.client()
    place = objects.namespace(client)
    objects.create(client, place, "pods", objects.pod("survivor"))
    objects.phase(client, place, "survivor", "Running")
    ports = (passing.api_url, passing.gateway_url)
    os.kill(passing.record.pid, signal.SIGKILL)
    with pytest.raises(NotRunning, match="up --name zt-passing"):
        while True:
            assert passing.gateway_url
    passing.up(gpus=2)
    assert (passing.api_url, passing.gateway_url) == ports
    pods = f"/api/v1/namespaces/{place}/pods"

    def restarted(pod: dict) -> bool:  # type: ignore[type-arg]
        states = pod["status"].get("containerStatuses") or []
        return any(state["restartCount"] > 0 and "running" in state["state"] for state in states)

    objects.seen(passing.client(), pods, restarted)


def test_up_again_changes_nothing(local_cluster: Cluster) -> None:
    """A second `up` finds everything in place: same process, no object written."""
    layout = Layout.of(local_cluster.name)
    node = f"/api/v1/nodes/{local_cluster.name}"
    paths = [
        node,
        "/api/v1/namespaces/kube-system/services/kube-dns",
        "/apis/storage.k8s.io/v1/storageclasses/local-path",
    ]

    def look() -> list[object]:
        client = local_cluster.client()
        # The kubelet reports its node now and then by itself: labels and capacity are what `up` could change.
        versions = [client.call("GET", path)["metadata"]["resourceVersion"] for path in paths[1:]]
        state = client.call("GET", node)
        return [Record.load(layout), versions, state["metadata"]["labels"], state["status"]["capacity"]]

    before = look()
    command = [sys.executable, "-m", "e2e.cluster", "up", "--name", local_cluster.name]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert look() == before


def test_a_dead_component_is_started_again(passing: Cluster) -> None:
    """The node's first process restarts what ends, and reaps it."""
    passing.up(gpus=0)
    client = passing.client()
    log = passing.logs_dir / "node.log"
    victim = _process_of("kube-scheduler", passing)
    os.kill(victim, signal.SIGKILL)
    place = objects.namespace(client)
    build(["trivial"], [passing])
    objects.create(client, place, "pods", objects.pod("scheduled"))
    objects.phase(client, place, "scheduled", "Running")
    assert "kube-scheduler: ended with -9" in log.read_text()


def _process_of(program: str, cluster: Cluster) -> int:
    mark = f"/{cluster.name}/"
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if command[0].decode().endswith(f"/{program}") and any(mark in part.decode() for part in command):
            return int(folder.name)
    raise AssertionError(f"no {program} of {cluster.name} runs")
