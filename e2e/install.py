"""Put Zerotide into a cluster with Helm, from this checkout: images, chart, and a System to talk to it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from e2e.cluster import Cluster
from e2e.harness import System
from e2e.tools import folder_of

ROOT = Path(__file__).resolve().parents[1]
RELEASE, NAMESPACE = "zerotide", "zerotide-system"

# What the tests and benchmarks need beyond the chart's narrow defaults.
VALUES: dict[str, Any] = {"policy": {"images": ["zerotide/*"], "allowOpen": True}}


def install(cluster: Cluster, values: dict[str, Any] | None = None) -> System:
    """Build and load the images, install the chart, wait until it is ready. Raises CalledProcessError."""
    subprocess.run([sys.executable, "-m", "e2e.images", "build", "all", "--load", cluster.name], cwd=ROOT, check=True)
    helm(cluster.kubeconfig, {**VALUES, **(values or {})})
    return System(cluster.kubeconfig, cluster.gateway_url, str(folder_of("kubernetes") / "kubectl"))


def helm(kubeconfig: Path, values: dict[str, Any]) -> None:
    """Install or upgrade the chart and wait until every process is ready."""
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(values, file)
        file.flush()
        command = [str(folder_of("helm") / "helm"), "upgrade", "--install", RELEASE, str(ROOT / "charts/zerotide")]
        options = [
            "-n",
            NAMESPACE,
            "--create-namespace",
            "--take-ownership",
            "--wait",
            "--timeout",
            "3m",
            "-f",
            file.name,
        ]
        subprocess.run([*command, *options], env={**os.environ, "KUBECONFIG": str(kubeconfig)}, check=True)
