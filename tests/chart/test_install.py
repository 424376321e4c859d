"""The chart's whole life on a real cluster of its own: install, test, upgrade, uninstall, install again."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from e2e.cluster import Cluster
from e2e.harness import System, chat, trivial, wait_until
from e2e.images import build as images
from e2e.install import install_into
from e2e.tools import folder_of
from e2e.up.target import Target
from tests.chart.rendering import CHART

HELM = str(folder_of("helm") / "helm")
NAMESPACE = "zerotide-system"


def target(cluster: Cluster) -> Target:
    """Return the cluster as `make up` knows it."""
    return Target(cluster, str(cluster.kubeconfig))


@pytest.fixture(scope="module")
def own(local_cluster: Cluster) -> Iterator[Cluster]:
    """Start a cluster that other tests do not share, since this one's chart is removed."""
    own = Cluster(f"{local_cluster.name}-chart")
    own.up(gpus=0)
    try:
        images.build(["operator", "trivial"], [own])
        yield own
    finally:
        own.down()
        shutil.rmtree(target(own).state, ignore_errors=True)


def helm(system: System, *args: str) -> str:
    """Run Helm on the cluster and return what it printed."""
    environment = {**os.environ, "KUBECONFIG": str(system.kubeconfig)}
    done = subprocess.run([HELM, *args, "-n", NAMESPACE], env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def ask(system: System, namespace: str, key: str) -> int:
    """Send one chat request to the endpoint and return the status of the answer."""
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    url = system.url(namespace, "kept", "/v1/chat/completions")
    request = urllib.request.Request(url, json.dumps(chat()).encode(), headers)
    with urllib.request.urlopen(request, timeout=120) as answer:
        return int(answer.status)


def test_its_life(own: Cluster) -> None:
    """Nothing that runs is left by an uninstallation, and nothing that was asked for or owed is lost by it."""
    system = install_into(target(own), own.gateway_url)
    assert "Phase:          Succeeded" in helm(system, "test", "zerotide")
    namespace = system.namespace()
    key = system.key(namespace, "k")
    system.endpoint(namespace, "kept", trivial(idle="1h"))
    system.wait_state(namespace, "kept", "Asleep")
    assert ask(system, namespace, key) == 200
    assert system.pods(namespace, "kept")

    older = strip_a_field(system)
    helm(system, "upgrade", "zerotide", str(CHART), "--reuse-values", "--wait")
    assert field(system.get("crd", "inferenceendpoints.zerotide.dev")) is not None, f"the upgrade left {older}"

    said = helm(system, "uninstall", "zerotide", "--wait")
    assert "[CustomResourceDefinition] inferenceendpoints.zerotide.dev" in said
    wait_until("its pods are gone", lambda: not system.pods(namespace, "kept"), timeout=90)
    assert system.get("deployment", "kept", "-n", namespace)["spec"]["replicas"] == 0
    assert system.get("iep", "kept", "-n", namespace) and system.get("apikey", "k", "-n", namespace)
    left = system.get("all,cm,sa,pvc,jobs", "-n", NAMESPACE)["items"]
    names = {
        f"{item['kind']}/{item['metadata']['name']}" for item in left if "deletionTimestamp" not in item["metadata"]
    }
    # A pod that ends its streams is not gone yet, and was told to go.
    assert names == {"ConfigMap/kube-root-ca.crt", "ServiceAccount/default", "PersistentVolumeClaim/zerotide-ledger"}
    kinds = "clusterroles,clusterrolebindings,validatingadmissionpolicies,validatingadmissionpolicybindings"
    listed = system.get(kinds)["items"]
    assert not [item["metadata"]["name"] for item in listed if item["metadata"]["name"].startswith("zerotide")]

    install_into(target(own), own.gateway_url)
    assert ask(system, namespace, key) == 200
    replicas = wait_until("the bill has both", lambda: billed(system, namespace) or None, timeout=60)
    assert replicas == 2


def strip_a_field(system: System) -> str:
    """Take a field out of the schema, as if an older version had been installed; return its name."""
    path = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/suspend"
    patch = json.dumps([{"op": "remove", "path": path}])
    system.kubectl("patch", "crd", "inferenceendpoints.zerotide.dev", "--type=json", "-p", patch)
    assert field(system.get("crd", "inferenceendpoints.zerotide.dev")) is None
    return path


def field(definition: dict[str, Any]) -> Any:
    """Return the schema of spec.suspend, if it is there."""
    schema = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return schema["properties"]["spec"]["properties"].get("suspend")


def billed(system: System, namespace: str) -> int:
    """Return how many replicas of the endpoint the ledger knows, once it knows both."""
    environment = {**os.environ, "KUBECONFIG": str(system.kubeconfig)}
    command = [sys.executable, "-m", "zerotide.cli", "bill", "cost", "kept", "-n", namespace, "--json"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    replicas = sum(endpoint["replicas"] for endpoint in json.loads(done.stdout)["endpoints"])
    return replicas if replicas >= 2 else 0
