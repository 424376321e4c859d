"""Specs: defaults, what is refused and how it is said, and reading objects of the API server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel, ValidationError

from tests.api.strategies import endpoint
from zerotide.api.apikey import APIKey
from zerotide.api.base import describe
from zerotide.api.endpoint import InferenceEndpoint, LastWake, ModelUri, Spec, Status, parse_uri
from zerotide.api.failures import InvalidObject, InvalidUri
from zerotide.api.scalars import parse_duration

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.yaml"))
MINIMAL: dict[str, Any] = {"model": {"uri": "image:///models/smollm2"}}


def test_a_minimal_endpoint_has_every_default() -> None:
    found = InferenceEndpoint.parse(endpoint(MINIMAL, "smollm2", "demo"))
    assert found.key == "demo/smollm2"
    assert found.model_name == "smollm2"
    assert found.owner == "demo/smollm2"
    assert found.spec.scaling.idle.timeout.us == 300_000_000
    assert found.spec.hold.max_bytes.units == 64 * 1024**2
    assert found.spec.drain.timeout == "15m"
    assert found.spec.accelerator is None


def test_names_by_which_clients_ask() -> None:
    spec = {"model": {"uri": "hf://a/b", "name": "x", "aliases": ["a/b", "x"]}, "billing": {"consumer": "team"}}
    found = InferenceEndpoint.parse(endpoint(spec, "e", "n"))
    assert found.model_names == ("x", "a/b")
    assert found.owner == "n/team"


@pytest.mark.parametrize(
    ("section", "content", "message"),
    [
        ("scaling", {"minReplicas": 2}, "scaling.minReplicas must not be greater than scaling.maxReplicas"),
        ("scaling", {"pinnedReplicas": 2}, "scaling.pinnedReplicas must not be greater than scaling.maxReplicas"),
        ("scaling", {"concurrency": {"target": 33}}, "scaling.concurrency.target must not be greater"),
        ("runtime", {"engine": "custom"}, "runtime.image must be given"),
        ("hold", {"coldTimeout": "21m"}, "hold.coldTimeout must not be longer"),
        ("drain", {"timeout": "1m"}, "drain.timeout must not be shorter"),
        ("hold", {"maxBytes": "1Mi"}, "hold.maxBytes must not be smaller"),
        ("scaling", {"idle": {"timeout": "4s"}}, "scaling.idle.timeout: must be from 5s to 24h"),
        ("hold", {"heartbeat": "1s"}, "hold.heartbeat: must be 0s or from 5s to 60s"),
        ("request", {"extraPaths": ["x"]}, "request.extraPaths.0: must be an exact absolute path"),
        ("request", {"extraPaths": ["/x", "/x"]}, "request.extraPaths: must not repeat a value"),
        ("runtime", {"env": [{"name": "A"}, {"name": "A"}]}, "runtime.env: must not repeat a name"),
        ("resources", {"requests": {"nvidia.com/gpu": "1"}}, "resources: must not name nvidia.com/gpu"),
        ("resources", {"requests": {"cpu": "2"}, "limits": {"cpu": "1500m"}}, "requests must not be greater"),
        ("podTemplate", {"metadata": {"labels": {"zerotide.dev/endpoint": "x"}}}, "labels must not begin with"),
        ("billing", {"consumer": "a/b"}, "billing.consumer: must be letters"),
    ],
)
def test_a_broken_rule_is_said_with_its_field(section: str, content: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidObject) as caught:
        InferenceEndpoint.parse(endpoint({**MINIMAL, section: content}))
    assert message in str(caught.value)
    assert any(problem.startswith("spec") for problem in caught.value.problems)


@pytest.mark.parametrize(
    ("engine", "request_", "message"),
    [
        ("vllm", {"extraPaths": ["/a.B/C"]}, "runtime.engine must be custom where runtime.protocol is GRPC"),
        ("custom", {}, "request.extraPaths must name the methods that may be called"),
        (
            "custom",
            {"extraPaths": ["/a.B/C"], "webSocket": "Enabled"},
            "request.webSocket must be Disabled where runtime.protocol is GRPC",
        ),
        ("custom", {"extraPaths": ["/inference.GRPCInferenceService/ModelInfer"]}, ""),
    ],
)
def test_rules_of_grpc(engine: str, request_: dict[str, Any], message: str) -> None:
    runtime = {"engine": engine, "image": "a", "protocol": "GRPC"}
    spec = endpoint({**MINIMAL, "runtime": runtime, "request": request_})
    if not message:
        assert InferenceEndpoint.parse(spec).spec.runtime.protocol == "GRPC"
        return
    with pytest.raises(InvalidObject, match=message):
        InferenceEndpoint.parse(spec)


@pytest.mark.parametrize(
    ("runtime", "ping", "message"),
    [
        ({"engine": "custom", "image": "a"}, {}, "scaling.ping.path must be given where runtime.engine is custom"),
        ({}, {"body": "{}"}, "must have a path where it has a body"),
        ({}, {"interval": "9s"}, "scaling.ping.interval"),
        ({"engine": "custom", "image": "a"}, {"path": "/warm"}, ""),
        ({}, {}, ""),
    ],
)
def test_rules_of_pings(runtime: dict[str, Any], ping: dict[str, Any], message: str) -> None:
    spec = endpoint({**MINIMAL, "runtime": runtime, "scaling": {"ping": {"interval": "1m", **ping}}})
    if not message:
        assert InferenceEndpoint.parse(spec).spec.scaling.calls_replicas
        return
    with pytest.raises(InvalidObject, match=message):
        InferenceEndpoint.parse(spec)


def test_grpc_is_not_pinged() -> None:
    runtime = {"engine": "custom", "image": "a", "protocol": "GRPC"}
    scaling, request = {"ping": {"interval": "1m", "path": "/a"}}, {"extraPaths": ["/a.B/C"]}
    with pytest.raises(InvalidObject, match=r"scaling.ping must be absent where runtime.protocol is GRPC"):
        InferenceEndpoint.parse(endpoint({**MINIMAL, "runtime": runtime, "scaling": scaling, "request": request}))


def test_no_limit_lets_any_target_be() -> None:
    concurrency = {"target": 100, "limit": 0}
    assert Spec.model_validate({**MINIMAL, "scaling": {"concurrency": concurrency}}).scaling.concurrency.target == 100


def test_people_may_not_write_unknown_fields_but_a_newer_server_may() -> None:
    spec = {**MINIMAL, "scaling": {"preheat": {}}}
    with pytest.raises(ValidationError) as caught:
        Spec.model_validate(spec)
    assert describe(caught.value) == ("scaling.preheat: Extra inputs are not permitted",)
    assert InferenceEndpoint.parse(endpoint(spec)).spec.scaling.max_replicas == 1


def test_an_object_without_name_is_still_told_what_is_wrong() -> None:
    with pytest.raises(InvalidObject, match=r"metadata: .*required"):
        InferenceEndpoint.parse({"spec": MINIMAL})


def test_bad_names_are_refused() -> None:
    with pytest.raises(InvalidObject, match=r"metadata\.name must begin with a letter"):
        InferenceEndpoint.parse(endpoint(MINIMAL, "1a"))


@pytest.mark.parametrize(
    ("uri", "parts"),
    [
        ("hf://o/n@r/1", ModelUri("hf", "o/n", revision="r/1")),
        ("hf://n", ModelUri("hf", "n")),
        ("pvc://c/a/b", ModelUri("pvc", "/a/b", claim="c")),
        ("pvc://c", ModelUri("pvc", "", claim="c")),
        ("file:///a", ModelUri("file", "/a")),
        ("image:///a/b", ModelUri("image", "/a/b")),
    ],
)
def test_uris_are_taken_apart(uri: str, parts: ModelUri) -> None:
    assert parse_uri(uri) == parts


@pytest.mark.parametrize("uri", ["", "s3://b/k", "image:///a/../b", "image:///a\n", "hf://a/b/c", "https://x"])
def test_other_uris_are_refused(uri: str) -> None:
    with pytest.raises(InvalidUri, match="must be hf://"):
        parse_uri(uri)


def test_the_stages_of_a_wake_sum_to_its_total() -> None:
    wake = LastWake.of("id", "2026-01-01T00:00:00Z", "Request", {"provision": 499, "load": 1_234_567, "init": 1_500})
    read = Status.read({"lastWake": wake.dump()}).last_wake
    assert read == wake
    assert wake.total_us == sum(parse_duration(stage.duration) for stage in wake.stages)
    assert [stage.duration for stage in wake.stages] == ["0s", "1s235ms", "2ms"]
    assert wake.total == "1s237ms"


def test_a_decision_says_from_and_to() -> None:
    decision = {"time": "2026-01-01T00:00:00Z", "from": 0, "to": 1, "reason": "WakeRequested", "message": ""}
    status = Status.read({"lastDecision": decision})
    assert status.last_decision is not None
    assert status.last_decision.to_replicas == 1
    assert status.last_decision.dump() == decision


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_examples_are_valid(path: Path) -> None:
    kinds: dict[str, type[BaseModel]] = {"InferenceEndpoint": InferenceEndpoint, "APIKey": APIKey}
    documents = list(yaml.safe_load_all(path.read_text()))
    assert documents
    for document in documents:
        if document["kind"] in kinds:
            kinds[document["kind"]].model_validate(document)
