"""The pod is restricted, mounts nothing where it can, and takes the user's podTemplate within the policy."""

from __future__ import annotations

from typing import Any

import pytest

from tests.reconcile.helpers import CONFIG, endpoint, template
from zerotide.reconcile.config import Config, Policy
from zerotide.reconcile.failures import InvalidMerge


def pod(spec: dict[str, Any], config: Config = CONFIG) -> dict[str, Any]:
    """Render the pod spec."""
    rendered: dict[str, Any] = template(endpoint(spec), config)["spec"]
    return rendered


def test_the_pod_of_an_image_model_is_restricted_and_mounts_nothing() -> None:
    """A volume would cost 0.3 s a wake."""
    rendered = template(endpoint({"drain": {"timeout": "15m"}}), CONFIG)
    spec = rendered["spec"]
    assert "volumes" not in spec and spec["automountServiceAccountToken"] is False
    assert spec["terminationGracePeriodSeconds"] == 900 and spec["serviceAccountName"] == "a"
    security = spec["securityContext"]
    assert security["runAsNonRoot"] and security["seccompProfile"] == {"type": "RuntimeDefault"}
    (container,) = spec["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
    }
    assert "volumeMounts" not in container and "lifecycle" not in container
    assert rendered["metadata"]["finalizers"] == ["metering.zerotide.dev/ledger"]
    assert rendered["metadata"]["labels"]["zerotide.dev/endpoint"] == "a"


@pytest.mark.parametrize(
    ("uri", "model", "volume", "mount_path"),
    [
        (
            "pvc://claim/p/m",
            "file:///models/p/m",
            {"persistentVolumeClaim": {"claimName": "claim", "readOnly": True}},
            "/models",
        ),
        (
            "pvc://claim",
            "file:///models",
            {"persistentVolumeClaim": {"claimName": "claim", "readOnly": True}},
            "/models",
        ),
        ("file:///srv/models/x", "file:///models/x", {"hostPath": {"path": "/srv/models/x"}}, "/models/x"),
    ],
)
def test_weights_by_volume(uri: str, model: str, volume: dict[str, Any], mount_path: str) -> None:
    """The volume is mounted read-only, and the engine is told where."""
    config = Config(images={"zerotide": "i"}, policy=Policy(node_paths=("/srv/models",)))
    spec = pod({"model": {"uri": uri}}, config)
    assert spec["volumes"] == [{"name": "model", **volume}]
    (container,) = spec["containers"]
    assert container["volumeMounts"] == [{"name": "model", "mountPath": mount_path, "readOnly": True}]
    assert container["env"][0] == {"name": "ZEROTIDE_MODEL_URI", "value": model}


def test_accelerators_resources_secrets_and_variables() -> None:
    """Accelerators are requests and limits; the user's variables win; secrets come as environment."""
    spec = pod(
        {
            "model": {"uri": "hf://o/n", "secretRef": {"name": "token"}},
            "accelerator": {"count": 2},
            "resources": {"requests": {"cpu": "1"}, "limits": {"memory": "4Gi"}},
            "runtime": {
                "engine": "vllm",
                "env": [
                    {"name": "HOME", "value": "/w"},
                    {"name": "K", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
                ],
            },
        }
    )
    (container,) = spec["containers"]
    assert container["resources"] == {
        "requests": {"cpu": "1", "nvidia.com/gpu": "2"},
        "limits": {"memory": "4Gi", "nvidia.com/gpu": "2"},
    }
    assert container["envFrom"] == [{"secretRef": {"name": "token"}}]
    env = {item["name"]: item for item in container["env"]}
    assert env["HOME"]["value"] == "/w" and env["K"]["valueFrom"]["secretKeyRef"]["key"] == "k"
    assert spec["tolerations"] == [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
    assert {"name": "shm", "mountPath": "/dev/shm"} in container["volumeMounts"]


def test_users_cannot_take_our_labels_or_the_model_container() -> None:
    """What the operator, the exporter and the activator rely on stays."""
    rendered = template(endpoint({"podTemplate": {"metadata": {"labels": {"team": "x"}}}}), CONFIG)
    assert rendered["metadata"]["labels"]["team"] == "x"
    with pytest.raises(InvalidMerge, match="keep the container model"):
        pod({"podTemplate": {"spec": {"containers": [{"name": "model", "$patch": "delete"}]}}})
    with pytest.raises(InvalidMerge, match="restartPolicy"):
        pod({"podTemplate": {"spec": {"restartPolicy": "Never"}}})


def test_images_on_the_list_pass() -> None:
    """Whole references and prefixes."""
    for image in ("good/a:1", "exact:1"):
        made = pod({"runtime": {"image": image}}, Config(policy=Policy(images=("good/*", "exact:1"))))
        assert made["containers"][0]["image"] == image
    made = pod({"runtime": {"image": "any"}}, Config(policy=Policy(images=("*",))))
    assert made["containers"][0]["image"] == "any"


def test_a_token_is_a_gate_of_the_pod() -> None:
    """Beside the engine's own health, and whatever gates the user adds; the user cannot take it away."""
    gate = {"conditionType": "zerotide.dev/token-generated"}
    token = {"runtime": {"engine": "vllm", "readiness": {"type": "Token"}}}
    spec = pod(token)
    assert spec["readinessGates"] == [gate]
    assert spec["containers"][0]["readinessProbe"]["httpGet"]["path"] == "/health"
    other = {"conditionType": "example.com/other"}
    assert pod({**token, "podTemplate": {"spec": {"readinessGates": [gate, other]}}})["readinessGates"] == [other, gate]
    assert pod({**token, "podTemplate": {"spec": {"readinessGates": None}}})["readinessGates"] == [gate]
    assert "readinessGates" not in pod({"runtime": {"engine": "vllm"}})
