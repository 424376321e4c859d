"""The pure parts of the local cluster, and the errors that people meet first."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from e2e.cluster import Cluster
from e2e.cluster.addons import PROVISIONER
from e2e.cluster.cluster import is_ready, require_root
from e2e.cluster.errors import BadName, ClusterError, CommandFailed, Exhausted, NotRoot, NotRunning
from e2e.cluster.layout import PORTS, Layout, Record, listen, process_start
from e2e.cluster.preflight import check_inotify
from e2e.cluster.shell import run
from e2e.cluster.volumes import SELECTED_NODE, STORAGE_PROVISIONER, is_abandoned, volume_for, wants_volume

ROOT = Path(__file__).resolve().parents[2]


def claim(**annotations: str) -> dict[str, Any]:
    """Render a claim for one gibibyte."""
    resources = {"requests": {"storage": "1Gi"}}
    spec = {"accessModes": ["ReadWriteOnce"], "storageClassName": "local-path", "resources": resources}
    return {"metadata": {"name": "c", "namespace": "n", "uid": "u", "annotations": annotations}, "spec": spec}


def test_only_our_claims_with_a_chosen_node_get_a_volume() -> None:
    """The scheduler decides first; claims of other classes and bound ones are left alone."""
    ours = {STORAGE_PROVISIONER: PROVISIONER, SELECTED_NODE: "node"}
    assert wants_volume(claim(**ours))
    assert not wants_volume(claim(**{STORAGE_PROVISIONER: PROVISIONER}))
    assert not wants_volume(claim(**{**ours, STORAGE_PROVISIONER: "another"}))
    bound = claim(**ours)
    bound["spec"]["volumeName"] = "pvc-u"
    assert not wants_volume(bound)


def test_a_volume_belongs_to_its_claim_and_its_node(tmp_path: Path) -> None:
    """It is a local volume, so that the kubelet honours fsGroup, on the chosen node only."""
    volume = volume_for(claim(**{STORAGE_PROVISIONER: PROVISIONER, SELECTED_NODE: "node"}), tmp_path)
    assert volume["spec"]["claimRef"]["uid"] == "u"
    assert volume["spec"]["local"] == {"path": str(tmp_path)}
    terms = volume["spec"]["nodeAffinity"]["required"]["nodeSelectorTerms"]
    assert terms[0]["matchExpressions"][0]["values"] == ["node"]
    assert not is_abandoned(volume)
    assert is_abandoned({**volume, "status": {"phase": "Released"}})
    assert not is_abandoned({**volume, "status": {"phase": "Released"}, "metadata": {"name": "x"}})


@pytest.mark.parametrize("name", ["", "Upper", "a/b", "-a", "a-", "x" * 31, "a.b", "1a"])
def test_names_that_would_break_paths_are_refused(name: str) -> None:
    """A name is part of paths, control groups and certificates."""
    with pytest.raises(BadName, match="at most 30"):
        Cluster(name)


def test_a_record_survives_and_knows_a_recycled_process_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process of the same number that started at another time is not the cluster's."""
    monkeypatch.setenv("ZEROTIDE_STATE", str(tmp_path))
    layout = Layout.of("one")
    layout.root.mkdir()
    record = Record(1, 2, 3, os.getpid(), process_start(os.getpid()))
    record.save(layout)
    assert Record.load(layout) == record and record.alive
    assert not Record(1, 2, 3, os.getpid(), "another").alive
    assert process_start(2**22 + 1) == ""
    layout.record.write_text("{")
    assert Record.load(layout) is None


def test_ports_lie_below_those_of_outgoing_connections() -> None:
    """A taken port is refused; a free one is found."""
    with listen(0) as found:
        port = found.getsockname()[1]
        assert port in PORTS
        with pytest.raises(ClusterError, match="taken"):
            listen(port)


def test_a_node_with_taints_is_not_ready() -> None:
    """Ready means that pods are scheduled on it."""
    ready = {"spec": {}, "status": {"conditions": [{"type": "Ready", "status": "True"}]}}
    assert is_ready(ready)
    assert not is_ready({**ready, "spec": {"taints": [{"key": "node.kubernetes.io/not-ready"}]}})
    assert not is_ready({"spec": {}, "status": {}})


def test_using_a_cluster_that_does_not_run_says_how_to_start_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Every use of it, from Python and from the command line."""
    monkeypatch.setenv("ZEROTIDE_STATE", str(tmp_path))
    with pytest.raises(NotRunning, match="up --name gone"):
        Cluster("gone").run_inside(["true"])
    command = [sys.executable, "-m", "e2e.cluster", "status", "--name", "gone"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.startswith("error: cluster 'gone' is not running")


def test_root_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the other way out named."""
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(NotRoot, match="KUBECONFIG"):
        require_root()


def test_a_failed_command_shows_its_words() -> None:
    """And one that is not installed names the step that installs it."""
    with pytest.raises(CommandFailed, match="No such file"):
        run("ls", "/nonexistent-folder")
    with pytest.raises(CommandFailed, match=r"e2e\.setup\.debian"):
        run("frobnicate")


def test_a_machine_without_inotify_instances_is_named_before_the_start() -> None:
    """What would otherwise end the container runtime with `too many open files`, says which limit it is."""
    check_inotify(1)
    files = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:  # the limit of files stands in for the one of instances, which is everybody's
        resource.setrlimit(resource.RLIMIT_NOFILE, (len(list(Path("/proc/self/fd").iterdir())) + 4, files[1]))
        with pytest.raises(Exhausted, match=r"sysctl fs\.inotify\.max_user_instances"):
            check_inotify()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, files)
