"""LoRA adapters of an endpoint: how each engine is told of them, what is mounted, who does not serve them."""

from __future__ import annotations

from typing import Any

import pytest

from tests.reconcile.helpers import endpoint, template
from zerotide.reconcile.failures import UnsupportedModel
from zerotide.reconcile.network_policy import network_policy

HUB = [{"name": "support", "uri": "hf://acme/support"}, {"name": "law", "uri": "image:///adapters/law"}]


def container_of(engine: str, adapters: list[dict[str, Any]], **spec: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the pod and its container."""
    model = {"uri": "image:///m", "name": "m", "aliases": ["n"], "adapters": adapters}
    pod = template(endpoint({"model": model, "runtime": {"engine": engine}, **spec}))["spec"]
    (container,) = pod["containers"]
    return pod, container


def test_our_own_runtime_is_told_by_environment() -> None:
    """What comes by the network needs a place to be written to."""
    _, container = container_of("zerotide", HUB)
    env = {item["name"]: item["value"] for item in container["env"]}
    assert env["ZEROTIDE_ADAPTERS"] == "support=hf://acme/support law=image:///adapters/law"
    assert "readOnlyRootFilesystem" not in container["securityContext"]
    _, local = container_of("zerotide", HUB[1:])
    assert local["securityContext"]["readOnlyRootFilesystem"] is True
    assert "volumeMounts" not in local


@pytest.mark.parametrize(
    ("engine", "expected"),
    [
        (
            "vllm",
            [
                "--enable-lora",
                "--lora-modules",
                '{"name": "m:support", "path": "acme/support"}',
                '{"name": "m:law", "path": "/adapters/law"}',
            ],
        ),
        (
            "sglang",
            [
                "--enable-lora",
                "--lora-paths",
                '{"lora_name": "support", "lora_path": "acme/support"}',
                '{"lora_name": "law", "lora_path": "/adapters/law"}',
            ],
        ),
    ],
)
def test_others_take_repositories_and_paths(engine: str, expected: list[str]) -> None:
    """Requests name them as ours do: the model, a colon, the adapter."""
    _, container = container_of(engine, HUB, accelerator={"count": 1})
    assert container["args"][-4:] == expected
    pinned = [{"name": "support", "uri": "hf://acme/support@abc"}]
    with pytest.raises(UnsupportedModel, match=r"adapters\[support\].*revision abc"):
        container_of(engine, pinned, accelerator={"count": 1})


def test_each_from_a_claim_has_a_volume() -> None:
    """Claims may be several, or the model's own."""
    adapters = [{"name": "a", "uri": "pvc://one/x/y"}, {"name": "b", "uri": "pvc://two"}]
    pod, container = container_of("zerotide", adapters)
    assert pod["volumes"] == [
        {"name": "adapter-0", "persistentVolumeClaim": {"claimName": "one", "readOnly": True}},
        {"name": "adapter-1", "persistentVolumeClaim": {"claimName": "two", "readOnly": True}},
    ]
    assert container["volumeMounts"] == [
        {"name": "adapter-0", "mountPath": "/adapters/0", "readOnly": True},
        {"name": "adapter-1", "mountPath": "/adapters/1", "readOnly": True},
    ]
    env = {item["name"]: item["value"] for item in container["env"]}
    assert env["ZEROTIDE_ADAPTERS"] == "a=file:///adapters/0/x/y b=file:///adapters/1"


@pytest.mark.parametrize("engine", ["llamacpp", "tgi"])
def test_who_cannot_serve_them_by_name_is_refused(engine: str) -> None:
    with pytest.raises(UnsupportedModel, match=rf"the engine {engine}.*zerotide, vllm, sglang"):
        container_of(engine, HUB)


def test_our_own_runtime_serves_them_on_processors() -> None:
    with pytest.raises(UnsupportedModel, match="processors only"):
        container_of("zerotide", HUB, accelerator={"count": 1})


@pytest.mark.parametrize("adapters", [HUB, HUB[1:], []])
def test_the_network_is_open_to_who_fetches_one(adapters: list[dict[str, Any]]) -> None:
    """A model of the image needs no network, an adapter of the Hub does."""
    spec = endpoint({"model": {"uri": "image:///m", "adapters": adapters}})
    kinds = network_policy(spec, "system").object["spec"]["policyTypes"]
    assert ("Egress" not in kinds) == (adapters == HUB)
