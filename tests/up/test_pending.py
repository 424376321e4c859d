"""An installation that was killed midway, on a real cluster; who installs at the same time, on none."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from e2e.tools import folder_of
from e2e.tools.build import ensure
from e2e.up.errors import StepFailed
from e2e.up.pending import PENDING, alone, forget_unfinished
from e2e.up.progress import capture

RELEASE = "left"
CHART = "apiVersion: v2\nname: left\nversion: 0.0.1\n"
NEVER_READY = """apiVersion: v1
kind: Service
metadata: {name: never, labels: {round: "{{ .Release.Revision }}"}}
spec: {type: LoadBalancer, ports: [{port: 80}], selector: {app: nothing}}
"""
"""Helm waits for a load balancer's address, which nobody here gives."""


@pytest.fixture
def environment(cluster: Any) -> dict[str, str]:
    """Return what kubectl and Helm need to reach the cluster."""
    for tool in ("kubernetes", "helm"):
        ensure([tool])
    folders = [str(folder_of(tool)) for tool in ("kubernetes", "helm")]
    return {**os.environ, "KUBECONFIG": str(cluster.kubeconfig), "PATH": ":".join([*folders, os.environ["PATH"]])}


@pytest.fixture
def namespace(environment: dict[str, str]) -> Iterator[str]:
    """Have a namespace of the test's own."""
    name = f"left-{secrets.token_hex(4)}"
    capture(["kubectl", "create", "namespace", name], environment)
    yield name
    capture(["kubectl", "delete", "namespace", name, "--wait=false"], environment)


def command(chart: Path, namespace: str, *flags: str) -> list[str]:
    """Return how `make up` installs a chart."""
    return ["helm", "upgrade", "--install", RELEASE, str(chart), "-n", namespace, "--take-ownership", *flags]


def status(namespace: str, environment: dict[str, str]) -> str:
    """Return what Helm says of the release, empty where there is none."""
    told = subprocess.run(
        ["helm", "status", RELEASE, "-n", namespace, "-o", "json"], env=environment, capture_output=True, text=True
    )
    return str(json.loads(told.stdout)["info"]["status"]) if told.returncode == 0 else ""


def kill_midway(chart: Path, namespace: str, environment: dict[str, str]) -> str:
    """Kill an installation that waits; return in which state it left the release."""
    before = status(namespace, environment)
    helm = subprocess.Popen(command(chart, namespace, "--wait"), env=environment, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while (left := status(namespace, environment)) == before:
        assert time.monotonic() < deadline, "Helm does not begin"
    helm.send_signal(signal.SIGKILL)
    helm.wait()
    return left


def test_what_was_killed_midway_is_put_right(tmp_path: Path, environment: dict[str, str], namespace: str) -> None:
    """The first installation as well as an upgrade: it is said in one line, and the next one goes through."""
    (tmp_path / "templates").mkdir()
    (tmp_path / "Chart.yaml").write_text(CHART)
    (tmp_path / "templates" / "never.yaml").write_text(NEVER_READY)
    said: list[str] = []
    for revision, left in ((1, "pending-install"), (2, "pending-upgrade")):
        assert kill_midway(tmp_path, namespace, environment) == left
        with pytest.raises(StepFailed, match="another operation"):
            capture(command(tmp_path, namespace), environment)
        with pytest.raises(StepFailed, match=f"revision {revision} of the release left is left {left} since"):
            forget_unfinished(RELEASE, namespace, environment, said.append, ours=False)
        forget_unfinished(RELEASE, namespace, environment, said.append, ours=True)
        assert len(said) == revision and f"is left {left}" in said[-1]
        capture(command(tmp_path, namespace), environment)
        assert status(namespace, environment) == "deployed"
    forget_unfinished(RELEASE, namespace, environment, said.append, ours=True)
    assert len(said) == 2


def fake_kubectl(folder: Path, found: list[dict[str, Any]]) -> dict[str, str]:
    """Put a kubectl into a folder that tells these records and writes down what it is asked."""
    (folder / "found.json").write_text(json.dumps({"items": found}))
    program = folder / "kubectl"
    program.write_text(f'#!/bin/sh\necho "$@" >> {folder}/asked\n[ "$1" = delete ] || cat {folder}/found.json\n')
    program.chmod(0o755)
    return {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"}


def test_what_is_old_was_left_whoever_began_it(tmp_path: Path) -> None:
    """In a cluster where others may install, only time tells."""
    labels = {"version": "7", "status": PENDING[1]}
    record = {"metadata": {"name": "r.v7", "labels": labels, "creationTimestamp": "2026-01-01T00:00:00Z"}}
    said: list[str] = []
    forget_unfinished(RELEASE, "n", fake_kubectl(tmp_path, [record]), said.append, ours=False)
    assert (tmp_path / "asked").read_text().splitlines()[-1] == "delete secret -n n r.v7"
    assert len(said) == 1 and "revision 7" in said[0]


def test_what_is_in_order_is_left_alone(tmp_path: Path) -> None:
    """One look, and not a word."""
    said: list[str] = []
    forget_unfinished(RELEASE, "n", fake_kubectl(tmp_path, []), said.append, ours=True)
    assert said == [] and len((tmp_path / "asked").read_text().splitlines()) == 1


def test_two_do_not_install_at_once(tmp_path: Path) -> None:
    """The second one says that it waits; a program that inherited the lock keeps it when its parent is gone."""
    said: list[str] = []
    with alone(tmp_path, said.append) as lock:
        child = subprocess.Popen(["sh", "-c", "read line"], stdin=subprocess.PIPE, pass_fds=(lock,))
    assert child.stdin is not None
    with (tmp_path / "install.lock").open() as other, pytest.raises(BlockingIOError):
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def end(line: str) -> None:
        said.append(line)
        child.communicate(b"\n")

    with alone(tmp_path, end):
        assert len(said) == 1 and "waiting" in said[0]
    assert child.returncode == 0
