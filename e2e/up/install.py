"""Put the chart of this checkout into the cluster, and wait until every process of this version is ready."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import time
from typing import Any

from e2e.images.load import digest_in_cluster
from e2e.images.table import IMAGES
from e2e.up.errors import StepFailed
from e2e.up.pending import alone, forget_unfinished
from e2e.up.progress import Progress, capture
from e2e.up.target import ROOT, Target

NAMESPACE = "zerotide-system"
RELEASE = "zerotide"
PROCESSES = ("operator", "activator", "exporter")
ANNOTATION = "zerotide.dev/image-digest"
VALUES_VARIABLE = "ZEROTIDE_VALUES"


def values(target: Target) -> dict[str, Any]:
    """Return what this checkout needs beyond the chart's narrow defaults.

    The tag of the local image never changes, so its digest is written on the pods: new code makes new pods, and
    unchanged code none.
    """
    wanted: dict[str, Any] = {"policy": {"images": ["zerotide/*"]}}
    if target.local is not None:
        digest = digest_in_cluster(target.local, IMAGES["operator"].reference)
        wanted |= {process: {"podAnnotations": {ANNOTATION: digest}} for process in PROCESSES}
    return wanted


def install(target: Target, progress: Progress) -> None:
    """Install or upgrade the chart; say which processes are awaited. Raises StepFailed with Helm's words.

    What an installation left that was killed midway is put right first.
    """
    with alone(target.state, progress.say) as lock, tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(values(target), file)
        file.flush()
        command = ["helm", "upgrade", "--install", RELEASE, str(ROOT / "charts/zerotide"), "-n", NAMESPACE]
        command += ["--create-namespace", "--take-ownership", "--wait", "--timeout", "5m", "-f", file.name]
        own = os.environ.get(VALUES_VARIABLE)
        command += ["-f", own] if own else []
        environment = target.environment()
        forget_unfinished(RELEASE, NAMESPACE, environment, progress.say, ours=target.local is not None)
        with tempfile.TemporaryFile("w+") as said:
            # Helm outlives a parent that is killed: it keeps the lock until it is done.
            helm = subprocess.Popen(
                command, env=environment, stdout=subprocess.DEVNULL, stderr=said, text=True, pass_fds=(lock,)
            )
            _follow(helm, environment, progress)
            if helm.returncode != 0:
                said.seek(0)
                raise StepFailed(f"helm upgrade failed: {said.read().strip()}\n{_troubles(environment)}")


def _follow(helm: subprocess.Popen[str], environment: dict[str, str], progress: Progress) -> None:
    last, looked = "", 0.0
    while True:
        try:
            helm.wait(timeout=0.5)
            return
        except subprocess.TimeoutExpired:
            pass
        if time.monotonic() - looked < 2:
            continue
        looked = time.monotonic()
        now = _awaited(environment)
        if now and now != last:
            progress.say(f"waiting for {now}")
            last = now


def _awaited(environment: dict[str, str]) -> str:
    """Return the processes that are not ready yet; empty while nothing is known."""
    listed = subprocess.run(
        ["kubectl", "get", "deployments", "-n", NAMESPACE, "-o", "json"],
        env=environment,
        capture_output=True,
        text=True,
    )
    if listed.returncode != 0:
        return ""
    waiting = []
    for item in json.loads(listed.stdout)["items"]:
        wanted, status = item["spec"]["replicas"], item.get("status", {})
        ready = min(status.get("readyReplicas", 0), status.get("updatedReplicas", 0))
        if ready < wanted:
            waiting.append(f"{item['metadata']['name'].removeprefix('zerotide-')} ({ready} of {wanted})")
    return ", ".join(waiting)


def _troubles(environment: dict[str, str]) -> str:
    """Return what a person would look at first: the pods, and the last lines of those that are not ready."""
    try:
        pods = capture(["kubectl", "get", "pods", "-n", NAMESPACE, "-o", "wide"], environment)
        logs = [
            capture(["kubectl", "logs", "-n", NAMESPACE, f"deployment/zerotide-{process}", "--tail=5"], environment)
            for process in PROCESSES
        ]
    except StepFailed as error:
        return str(error)
    return "\n".join([pods, *logs])
