"""Put Zerotide of this checkout into a cluster as `make up` does, with what tests need on top, and talk to it."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from e2e.cluster import Cluster
from e2e.harness import System
from e2e.images import build as images
from e2e.up.install import VALUES_VARIABLE
from e2e.up.install import install as install_chart
from e2e.up.progress import Progress
from e2e.up.target import Target, link_programs

NODE_FOLDER = "/var/tmp/zerotide-models"
# The trivial image is the tests' own, open endpoints and folders of the node are tested too: none of it is allowed by
# default. Time is counted sooner, so that nothing has to be waited for. One address of the cluster stands for the world
# outside, whose servers are certified by the cluster's own authority.
ABROAD = "10.96.200.1"
VALUES: dict[str, Any] = {
    "policy": {
        "images": ["zerotide/*"],
        "allowOpen": True,
        "nodePaths": [NODE_FOLDER],
        "egress": {"allow": [f"{ABROAD}/32"], "caConfigMap": "kube-root-ca.crt"},
    },
    "exporter": {"extraEnv": [{"name": "ZEROTIDE_SETTLE_LAG", "value": "5s"}], "archive": {"enabled": True}},
}
IMAGES = ["operator", "smollm2", "trivial"]


def say(text: str) -> None:
    """Tell the progress where it does not mix with results."""
    print(text, file=sys.stderr, flush=True)


def install(cluster: Cluster) -> System:
    """Build and load the images into a local cluster, install the chart, wait until it is ready. Raises UpError."""
    images.build(IMAGES, [cluster], say)
    return install_into(Target(cluster, str(cluster.kubeconfig)), cluster.gateway_url)


def install_into(target: Target, gateway: str) -> System:
    """Install the chart into a cluster that has the images, and wait until it is ready. Raises UpError."""
    link_programs(target, say)
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(VALUES, file)
        file.flush()
        os.environ[VALUES_VARIABLE] = file.name
        try:
            install_chart(target, Progress(total=1))
        finally:
            del os.environ[VALUES_VARIABLE]
    return System(Path(target.kubeconfig), gateway, str(target.state / "bin" / "kubectl"))
