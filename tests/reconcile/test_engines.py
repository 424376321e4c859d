"""Golden command lines of each engine: the documented flags, in full."""

from __future__ import annotations

from typing import Any

import pytest

from tests.reconcile.helpers import CONFIG, endpoint, template
from zerotide.reconcile.failures import NoImage, UnsupportedModel

HUB = "hf://acme/model@abc123"
LAUNCHES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "zerotide": (
        {"model": {"uri": HUB, "name": "m", "aliases": ["n", "acme/o"]}, "runtime": {"args": ["--x"]}},
        {
            "args": "--x",
            "env": {
                "ZEROTIDE_MODEL_URI": HUB,
                "ZEROTIDE_MODEL_NAME": "m",
                "PORT": "8000",
                "ZEROTIDE_MAX_BODY_BYTES": "16777216",
                "ZEROTIDE_MODEL_ALIASES": "n,acme/o",
            },
        },
    ),
    "vllm": (
        {"model": {"uri": HUB, "name": "m", "aliases": ["n"]}, "accelerator": {"count": 2}},
        {
            "command": ["vllm", "serve", "acme/model"],
            "args": ("--host 0.0.0.0 --port 8000 --revision abc123 --tensor-parallel-size 2 --served-model-name m n"),
            "env": {"HOME": "/tmp", "USER": "model"},
        },
    ),
    "sglang": (
        {"model": {"uri": HUB, "name": "m"}, "accelerator": {"count": 4}, "runtime": {"port": 9000}},
        {
            "command": ["python3", "-m", "sglang.launch_server"],
            "args": (
                "--model-path acme/model --served-model-name m --host 0.0.0.0 "
                "--port 9000 --revision abc123 --tensor-parallel-size 4"
            ),
            "env": {"HOME": "/tmp", "USER": "model"},
        },
    ),
    "llamacpp": (
        {"model": {"uri": "pvc://weights/q/m.gguf", "aliases": ["n"]}, "runtime": {"args": ["--ctx-size", "4096"]}},
        {
            "args": ("--model /models/q/m.gguf --alias a,n --host 0.0.0.0 --port 8000 --metrics --ctx-size 4096"),
            "env": {"HOME": "/tmp", "USER": "model"},
        },
    ),
    "tgi": (
        {"model": {"uri": HUB}, "accelerator": {"count": 2}},
        {
            "args": "--model-id acme/model --hostname 0.0.0.0 --port 8000 --revision abc123 --num-shard 2",
            "env": {"HOME": "/tmp", "USER": "model", "HUGGINGFACE_HUB_CACHE": "/tmp/hub"},
        },
    ),
    "custom": (
        {"runtime": {"image": "mine:1", "args": ["serve"], "readiness": {"path": "/up"}}},
        {
            "args": "serve",
            "env": {"ZEROTIDE_MODEL_URI": "image:///m", "ZEROTIDE_MODEL_NAME": "a", "PORT": "8000"},
        },
    ),
}


@pytest.mark.parametrize("engine", list(LAUNCHES))
def test_launch(engine: str) -> None:
    """Command, arguments, environment, port and health route of each engine."""
    spec, expected = LAUNCHES[engine]
    spec = {**spec, "runtime": {**spec.get("runtime", {}), "engine": engine}}
    (container,) = template(endpoint(spec), CONFIG)["spec"]["containers"]
    assert container["name"] == "model"
    assert container.get("command") == expected.get("command")
    assert " ".join(container["args"]) == expected["args"]
    assert {item["name"]: item["value"] for item in container["env"]} == expected["env"]
    port = spec["runtime"].get("port", 8000)
    assert container["ports"] == [{"name": "http", "containerPort": port, "protocol": "TCP"}]
    path = spec["runtime"].get("readiness", {}).get("path", "/health")
    assert container["readinessProbe"]["httpGet"] == {"path": path, "port": port}
    assert container["readinessProbe"]["periodSeconds"] == 1


KEPT = {
    "zerotide": {"ZEROTIDE_CACHE_DIR": "/cache/hub"},
    "vllm": {"HF_HOME": "/cache/huggingface", "VLLM_CACHE_ROOT": "/cache/vllm", "TRITON_CACHE_DIR": "/cache/triton"},
    "sglang": {
        "HF_HOME": "/cache/huggingface",
        "TORCHINDUCTOR_CACHE_DIR": "/cache/inductor",
        "TRITON_CACHE_DIR": "/cache/triton",
    },
    "llamacpp": {"LLAMA_CACHE": "/cache/llama.cpp"},
    "tgi": {"HUGGINGFACE_HUB_CACHE": "/cache/hub"},
    "custom": {"ZEROTIDE_CACHE_DIR": "/cache"},
}


@pytest.mark.parametrize("engine", list(LAUNCHES))
def test_a_cache_is_where_each_engine_looks_for_it(engine: str) -> None:
    """By its own variables, and nothing else changes; the user's of the same name win."""
    spec, expected = LAUNCHES[engine]
    cache = {"type": "PersistentVolumeClaim", "persistentVolumeClaim": {"claimName": "kept"}}
    spec = {**spec, "cache": cache, "runtime": {**spec.get("runtime", {}), "engine": engine}}
    made = template(endpoint(spec), CONFIG)["spec"]
    (container,) = made["containers"]
    assert {item["name"]: item["value"] for item in container["env"]} == {**expected["env"], **KEPT[engine]}
    assert {"name": "cache", "persistentVolumeClaim": {"claimName": "kept"}} in made["volumes"]
    assert {"name": "cache", "mountPath": "/cache"} in container["volumeMounts"]
    security = made["securityContext"]
    assert (security["fsGroup"], security["fsGroupChangePolicy"]) == (65532, "OnRootMismatch")
    name = next(iter(KEPT[engine]))
    spec["runtime"] = {**spec["runtime"], "env": [{"name": name, "value": "/elsewhere"}]}
    (container,) = template(endpoint(spec), CONFIG)["spec"]["containers"]
    assert [item["value"] for item in container["env"] if item["name"] == name] == ["/elsewhere"]


def test_grpc_is_asked_for_its_health() -> None:
    """A replica that speaks gRPC is ready once its health service says so; the kubelet asks it too."""
    runtime = {"engine": "custom", "image": "mine:1", "protocol": "GRPC", "port": 8001}
    spec = {"model": {"uri": "image:///m"}, "runtime": runtime, "request": {"extraPaths": ["/a.B/C"]}}
    (container,) = template(endpoint(spec), CONFIG)["spec"]["containers"]
    assert container["readinessProbe"]["grpc"] == {"port": 8001, "service": ""}
    assert "httpGet" not in container["readinessProbe"]


def test_llamacpp_takes_a_repository_but_no_revision() -> None:
    """llama.cpp has no flag for a revision; a silent latest would not be what was asked for."""
    runtime = {"engine": "llamacpp"}
    (container,) = template(endpoint({"model": {"uri": "hf://acme/m-GGUF"}, "runtime": runtime}), CONFIG)["spec"][
        "containers"
    ]
    assert container["args"][:2] == ["--hf-repo", "acme/m-GGUF"]
    with pytest.raises(UnsupportedModel, match="revision abc123"):
        template(endpoint({"model": {"uri": HUB}, "runtime": runtime}), CONFIG)


def test_an_engine_without_an_image_is_told() -> None:
    """Neither the spec nor the installation names one."""
    from zerotide.reconcile.config import Config

    with pytest.raises(NoImage, match="vllm"):
        template(endpoint({"runtime": {"engine": "vllm"}}), Config())
