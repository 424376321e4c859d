"""Every pod of the chart is restricted, bounded and probed, whatever the switches."""

from __future__ import annotations

from typing import Any

import pytest

from tests.chart.rendering import Object, find, pods, render

SWITCHES: list[Object] = [
    {},
    {"exporter": {"persistence": {"enabled": False}, "prices": {"currency": "EUR", "prices": []}}},
    {"operator": {"replicas": 1, "affinity": {"nodeAffinity": {}}}, "images": {"pullSecrets": [{"name": "p"}]}},
]
RESTRICTED_VOLUMES = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected"}


@pytest.mark.parametrize("values", SWITCHES)
def test_restricted(values: Object) -> None:
    """The restricted Pod Security Standard, and a read-only root filesystem."""
    seen = dict(pods(render(values)))
    assert {"Pod/zerotide-test", "Job/zerotide-uninstall", "Deployment/zerotide-operator"} <= set(seen)
    for name, pod in seen.items():
        security = pod["securityContext"]
        assert security["runAsNonRoot"] is True and security["runAsUser"] > 0, name
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod), name
        for volume in pod.get("volumes", []):
            assert set(volume) - {"name"} <= RESTRICTED_VOLUMES, name
        for container in pod["containers"]:
            own = container["securityContext"]
            assert own["allowPrivilegeEscalation"] is False and own["readOnlyRootFilesystem"] is True, name
            assert own["capabilities"] == {"drop": ["ALL"]}, name
            assert not any("hostPort" in port for port in container.get("ports", [])), name


@pytest.mark.parametrize("values", SWITCHES)
def test_bounded(values: Object) -> None:
    """Every container asks for something and has a memory limit; emptyDirs have a size."""
    for name, pod in pods(render(values)):
        for container in pod["containers"]:
            resources = container["resources"]
            assert resources["requests"]["cpu"] and resources["requests"]["memory"], name
            assert resources["limits"]["memory"], name
        for volume in pod.get("volumes", []):
            if "emptyDir" in volume:
                assert volume["emptyDir"]["sizeLimit"], name


def test_only_processes_that_need_it_get_a_token() -> None:
    """Accounts mount none by default; the pods that talk with the API server ask for it."""
    objects = render()
    for account in (item for item in objects if item["kind"] == "ServiceAccount"):
        assert account["automountServiceAccountToken"] is False, account["metadata"]["name"]
    for name in ("operator", "activator", "exporter"):
        pod = find(objects, "Deployment", f"zerotide-{name}")["spec"]["template"]["spec"]
        assert pod["automountServiceAccountToken"] is True
        assert pod["serviceAccountName"] == f"zerotide-{name}"
        assert pod["enableServiceLinks"] is False


def test_probed() -> None:
    """Alive and ready by the admin port, and a start may be slow."""
    for name, pod in pods(render()):
        if not name.startswith("Deployment/"):
            continue
        container: dict[str, Any] = pod["containers"][0]
        assert {port["name"] for port in container["ports"]} >= {"admin"}
        assert container["livenessProbe"]["httpGet"] == {"path": "/healthz", "port": "admin"}
        assert container["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "admin"}
        startup = container["startupProbe"]
        assert startup["periodSeconds"] * startup["failureThreshold"] >= 60


def test_spread() -> None:
    """Replicas go to different nodes and zones where they can."""
    for name in ("operator", "activator"):
        pod = find(render(), "Deployment", f"zerotide-{name}")["spec"]["template"]["spec"]
        spread = {entry["topologyKey"]: entry for entry in pod["topologySpreadConstraints"]}
        assert set(spread) == {"kubernetes.io/hostname", "topology.kubernetes.io/zone"}
        for entry in spread.values():
            assert entry["labelSelector"]["matchLabels"]["app.kubernetes.io/component"] == name
