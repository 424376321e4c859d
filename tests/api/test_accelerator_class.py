"""What an AcceleratorClass may say, and what an endpoint may say of its accelerators: type and server agree."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from tests.api.server import Server
from zerotide.api.accelerator_class import AcceleratorClass, PartOf
from zerotide.api.endpoint import Accelerator
from zerotide.billing.allocation import allocation_of

EXAMPLE = Path(__file__).parents[2] / "examples" / "acceleratorclasses.yaml"
CLASSES = "/apis/zerotide.dev/v1alpha1/acceleratorclasses"
GOOD: list[dict[str, Any]] = [
    {},
    {"resourceName": "nvidia.com/gpu.shared"},
    {"resourceName": "nvidia.com/mig-1g.10gb", "maxCount": 7},
    {"resourceName": "amd.com/gpu", "provisioning": "OnDemand"},
    {"nodeSelector": {"nvidia.com/gpu.product": "NVIDIA-L4"}, "runtimeClassName": "nvidia"},
    {"tolerations": [{"operator": "Exists"}, {"key": "a", "value": "b", "effect": "NoExecute"}]},
    {"namespaceSelector": {}},
    {"memory": "80Gi", "sharing": "Exclusive"},
    {"resourceName": "nvidia.com/mig-1g.10gb", "memory": "10Gi", "sharing": "Partition"},
    {"sharing": "Partition", "partOf": {"className": "nvidia-h100-80gb", "numerator": 2, "denominator": 7}},
    {"sharing": "TimeSlice", "partOf": {"className": "nvidia-l4", "denominator": 4}},
    {"namespaceSelector": {"matchLabels": {"team": "ml", "example.com/tier": "1"}}},
]
BAD: list[dict[str, Any]] = [
    {"resourceName": "cpu"},
    {"resourceName": "example.com/gpu"},
    {"resourceName": "nvidia.com/gpus"},
    {"maxCount": 0},
    {"provisioning": "Sometimes"},
    {"nodeSelector": {"a b": "c"}},
    {"nodeSelector": {"a": "b c"}},
    {"tolerations": [{"operator": "Exists", "key": "a", "value": "b"}]},
    {"tolerations": [{"value": "b"}]},
    {"tolerations": [{"key": "a", "effect": "Never"}]},
    {"runtimeClassName": "No"},
    {"memory": "much"},
    {"memory": "1Ki"},
    {"sharing": "Some"},
    {"partOf": {"className": "h100", "denominator": 7}},
    {"sharing": "Exclusive", "partOf": {"className": "h100", "denominator": 7}},
    {"sharing": "Partition", "partOf": {"className": "h100", "numerator": 8, "denominator": 7}},
    {"sharing": "Partition", "partOf": {"className": "h100", "numerator": 0, "denominator": 7}},
    {"sharing": "Partition", "partOf": {"className": "h100"}},
    {"sharing": "Partition", "partOf": {"className": "-", "denominator": 7}},
    {"sharing": "Partition", "partOf": {"className": "class-tests", "denominator": 7}},
    {"namespaceSelector": {"matchLabels": {"a b": "c"}}},
    {"namespaceSelector": {"matchExpressions": []}},
]
FINE: list[dict[str, Any]] = [
    {},
    {"className": "h100", "count": 2},
    {"className": "h100", "alternatives": []},
    {"className": "h100", "alternatives": [{"className": "a100"}, {"className": "h100", "count": 2}]},
]
WRONG: list[dict[str, Any]] = [
    {"className": "-"},
    {"count": 65},
    {"alternatives": [{"className": "a100"}]},
    {"className": "h100", "alternatives": [{"count": 1}]},
    {"className": "h100", "alternatives": [{"className": "h100"}]},
    {"className": "h100", "alternatives": [{"className": "a100"}, {"className": "a100"}]},
    {"className": "h100", "alternatives": [{"className": f"a{n}"} for n in range(5)]},
]


def named(spec: dict[str, Any], name: str = "class-tests") -> dict[str, Any]:
    """Return a class with a spec."""
    return {
        "apiVersion": "zerotide.dev/v1alpha1",
        "kind": "AcceleratorClass",
        "metadata": {"name": name},
        "spec": spec,
    }


@pytest.mark.parametrize("spec", GOOD, ids=str)
def test_what_is_a_class(spec: dict[str, Any]) -> None:
    """Each names devices that the ledger finds in pods, or their use would be billed to nobody."""
    found = AcceleratorClass.model_validate(named(spec)).spec
    requests = {"requests": {found.resource_name: "3"}}
    allocation = allocation_of({"spec": {"containers": [{"resources": requests}]}})
    assert allocation[:2] == (found.resource_name, 3)


@pytest.mark.parametrize("spec", BAD, ids=str)
def test_what_is_none(spec: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        AcceleratorClass.model_validate(named(spec))


def test_a_name_is_the_value_of_a_label() -> None:
    with pytest.raises(ValidationError, match="at most 63"):
        AcceleratorClass.model_validate(named({}, "a" * 64))


@pytest.mark.parametrize("wanted", FINE, ids=str)
def test_what_an_endpoint_may_ask_for(wanted: dict[str, Any]) -> None:
    assert Accelerator.model_validate(wanted).count >= 1


@pytest.mark.parametrize("wanted", WRONG, ids=str)
def test_what_it_may_not(wanted: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Accelerator.model_validate(wanted)


@pytest.fixture(scope="module")
def server(cluster: Any) -> Iterator[Server]:
    """Return a client of a cluster that has both kinds."""
    with Server(cluster.kubeconfig) as client:
        client.define("acceleratorclasses", "inferenceendpoints")
        yield client


def test_the_server_agrees(server: Server) -> None:
    """About classes, and about what endpoints ask for."""
    for spec in (*GOOD, *BAD):
        assert (server.refusal(CLASSES, named(spec)) is not None) == (spec in BAD), spec
    assert server.refusal(CLASSES, named({}, "a" * 64)) is not None
    for wanted in (*FINE, *WRONG):
        spec = {"model": {"uri": "image:///m"}, "accelerator": wanted}
        endpoint = {**named(spec, "a"), "kind": "InferenceEndpoint"}
        path = "/apis/zerotide.dev/v1alpha1/namespaces/default/inferenceendpoints"
        assert (server.refusal(path, endpoint) is not None) == (wanted in WRONG), wanted
    for example in yaml.safe_load_all(EXAMPLE.read_text()):
        assert server.refusal(CLASSES, example) is None


@given(st.integers(1, 64), st.integers(1, 64), st.from_regex(r"[a-z]([a-z0-9-]{0,9}[a-z0-9])?", fullmatch=True))
def test_a_part_is_written_on_pods_and_read_back(numerator: int, denominator: int, name: str) -> None:
    """And what nobody of ours wrote is no part."""
    if numerator <= denominator:
        part = PartOf(class_name=name, numerator=numerator, denominator=denominator)
        assert PartOf.read(part.text) == part
    else:
        assert PartOf.read(f"{numerator}/{denominator} {name}") is None


@pytest.mark.parametrize("text", ["", "1/7", "1/7 ", "0/7 a", "1/0 a", "1/65 a", "1/7 -", "1/7 a b", "x/7 a", "1/7 A"])
def test_what_is_no_part(text: str) -> None:
    assert PartOf.read(text) is None
