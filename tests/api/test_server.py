"""A real API server takes the CRDs, fills the same defaults and refuses the same specs as the types do."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from pydantic import ValidationError

from tests.api.server import APPLY, MERGE, Refused, Server
from tests.api.strategies import endpoint, specs
from zerotide.api.apikey import APIKey
from zerotide.api.conditions import Reason, State, conditions
from zerotide.api.cost import Cost, FailedStartsCost
from zerotide.api.crd import definitions
from zerotide.api.endpoint import (
    AcceleratorStatus,
    ColdStarts,
    Decision,
    FailedStarts,
    HandledAnnotations,
    InferenceEndpoint,
    LastWake,
    LearnedIdle,
    LiveOverride,
    ModelStatus,
    OpenWindow,
    Status,
    VerificationStatus,
    WakeRequest,
)
from zerotide.api.status import PrewarmOpening, PrewarmStatus

NAMESPACE = f"api-tests-{uuid4().hex[:8]}"  # a new one each time: the last one may still be going
ROOT = "/apis/zerotide.dev/v1alpha1/namespaces"
EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.yaml"))
MODEL: dict[str, Any] = {"model": {"uri": "image:///m"}}
JWT: dict[str, Any] = {"issuer": "i", "audiences": ["a"], "jwksURL": "https://a/keys"}
REF = {"name": "s", "key": "k"}
NOW = "2026-11-22T18:00:00Z"
PLURALS = {"InferenceEndpoint": "inferenceendpoints", "APIKey": "apikeys"}


@pytest.fixture(scope="module")
def server(cluster: Any) -> Iterator[Server]:
    """Return a client of a cluster that has the CRDs and a namespace for these tests."""
    with Server(cluster.kubeconfig) as client:
        client.define(*(definition["spec"]["names"]["plural"] for definition in definitions().values()))
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
        client.call("PATCH", f"/api/v1/namespaces/{NAMESPACE}?fieldManager=api-tests", namespace, APPLY)
        yield client
        for plural in PLURALS.values():
            client.call("DELETE", f"{ROOT}/{NAMESPACE}/{plural}")
        client.call("DELETE", f"/api/v1/namespaces/{NAMESPACE}")


WINDOW = {"name": "w", "start": "0 8 * * 1-5", "duration": "8h"}


def create(client: Server, obj: dict[str, Any], *, keep: bool = False) -> dict[str, Any]:
    """Create an object in the tests' namespace under strict validation, by default without keeping it."""
    obj = copy.deepcopy(obj)
    obj["metadata"]["namespace"] = NAMESPACE
    dry = "" if keep else "&dryRun=All"
    path = f"{ROOT}/{NAMESPACE}/{PLURALS[obj['kind']]}?fieldValidation=Strict{dry}"
    made: dict[str, Any] = client.call("POST", path, obj)
    return made


def refusal(client: Server, obj: dict[str, Any]) -> str | None:
    """Return why the schema refuses an object, or None; what a policy says comes after the schema."""
    try:
        create(client, obj)
    except Refused as error:
        if "ValidatingAdmissionPolicy" in str(error):
            return None
        assert error.status in (400, 422), error
        return str(error)
    return None


ABSENT = (
    ("model", "aliases"),
    ("model", "adapters"),
    ("runtime", "args"),
    ("runtime", "env"),
    ("request", "extraPaths"),
    ("scaling", "schedules"),
)
"""Lists without a default in the schema."""


def test_the_server_fills_the_same_defaults(server: Server) -> None:
    made = create(server, endpoint(MODEL))
    expected = InferenceEndpoint.model_validate(endpoint(MODEL)).dump()["spec"]
    for path in ABSENT:
        del expected[path[0]][path[1]]
    assert made["spec"] == expected
    assert InferenceEndpoint.parse(made).spec == InferenceEndpoint.model_validate(endpoint(MODEL)).spec


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_examples_are_accepted(server: Server, path: Path) -> None:
    for document in yaml.safe_load_all(path.read_text()):
        if document["kind"] in PLURALS:
            assert refusal(server, document) is None


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({}, "spec.model: Required value"),
        ({"model": {}}, "spec.model.uri: Required value"),
        ({"model": {"uri": "s3://b"}}, 'spec.model.uri: Invalid value: "s3://b": must be hf://owner/name'),
        ({**MODEL, "scaling": {"minReplicas": 2}}, "spec.scaling.minReplicas: Invalid value: scaling.minReplicas must"),
        ({**MODEL, "scaling": {"pinnedReplicas": 2}}, "spec.scaling.pinnedReplicas: Invalid value"),
        ({**MODEL, "scaling": {"maxReplicas": 0}}, "spec.scaling.maxReplicas"),
        ({**MODEL, "scaling": {"concurrency": {"target": 99}}}, "scaling.concurrency.target must not be greater"),
        ({**MODEL, "scaling": {"idle": {"timeout": "1s"}}}, 'spec.scaling.idle.timeout: Invalid value: "1s": must be'),
        ({**MODEL, "scaling": {"idle": {"timeout": "5 min"}}}, "spec.scaling.idle.timeout"),
        ({**MODEL, "scaling": {"idle": {"timeout": 5}}}, "spec.scaling.idle.timeout"),
        ({**MODEL, "runtime": {"engine": "custom"}}, "spec.runtime.image: Invalid value: runtime.image must be given"),
        ({**MODEL, "runtime": {"engine": "ollama"}}, "spec.runtime.engine: Unsupported value"),
        (
            {**MODEL, "runtime": {"protocol": "GRPC"}},
            "spec.runtime.protocol: Invalid value: runtime.engine must be custom",
        ),
        (
            {**MODEL, "runtime": {"engine": "custom", "image": "a", "protocol": "GRPC"}},
            "spec.request.extraPaths: Invalid value: request.extraPaths must name the methods",
        ),
        (
            {**MODEL, "runtime": {"engine": "llamacpp"}, "scaling": {"tokensInFlight": {"target": 9}}},
            "spec.scaling.tokensInFlight: Invalid value: scaling.tokensInFlight must be absent where runtime.engine is",
        ),
        (
            {**MODEL, "runtime": {"engine": "custom", "image": "a"}, "scaling": {"ping": {"interval": "1m"}}},
            "spec.scaling.ping: Invalid value: scaling.ping.path must be given where runtime.engine is custom",
        ),
        (
            {**MODEL, "runtime": {"readiness": {"type": "Token", "path": "/health"}}},
            "spec.runtime.readiness.path: Invalid value: runtime.readiness.path must be absent where",
        ),
        (
            {**MODEL, "runtime": {"engine": "custom", "image": "a", "readiness": {"type": "Token"}}},
            "spec.runtime.readiness.type: Invalid value: runtime.readiness.type must be HTTP where",
        ),
        ({**MODEL, "scaling": {"ping": {"interval": "1s"}}}, "spec.scaling.ping.interval: Invalid value"),
        ({**MODEL, "scaling": {"ping": {"interval": "1m", "body": "{}"}}}, "must have a path where it has a body"),
        ({**MODEL, "hold": {"coldTimeout": "1h"}}, "spec.hold.coldTimeout: Invalid value: hold.coldTimeout must not"),
        ({**MODEL, "hold": {"maxBytes": "1Mi"}}, "spec.hold.maxBytes: Invalid value: hold.maxBytes must not"),
        ({**MODEL, "routing": {"policy": "RoundRobin"}}, "spec.routing.policy: Unsupported value"),
        ({**MODEL, "routing": {"stickyHeader": "Cookie"}}, 'spec.routing.stickyHeader: Invalid value: "Cookie": must'),
        ({**MODEL, "drain": {"timeout": "1m"}}, "spec.drain.timeout: Invalid value: drain.timeout must not"),
        ({**MODEL, "resources": {"limits": {"nvidia.com/gpu": "1"}}}, "spec.resources: Invalid value: must not name"),
        ({**MODEL, "resources": {"requests": {"cpu": "2"}, "limits": {"cpu": "1"}}}, "requests must not be greater"),
        ({**MODEL, "runtime": {"env": [{"name": "A", "valueFrom": {}}]}}, "spec.runtime.env[0].valueFrom: Invalid"),
        (
            {**MODEL, "runtime": {"env": [{"name": "A", "value": "", "valueFrom": {"secretKeyRef": REF}}]}},
            "spec.runtime.env[0]: Invalid value: must not have both",
        ),
        ({**MODEL, "resources": {"limits": {"bad key": "1"}}}, "spec.resources.limits: Invalid value: keys must be"),
        ({**MODEL, "runtime": {"env": [{"name": "A"}, {"name": "A"}]}}, "spec.runtime.env[1]: Duplicate value"),
        (
            {**MODEL, "podTemplate": {"metadata": {"labels": {"zerotide.dev/endpoint": "x"}}}},
            "spec.podTemplate.metadata.labels: Invalid value: labels must not begin with zerotide.dev/",
        ),
        (
            {**MODEL, "podTemplate": {"metadata": {"annotations": {"zerotide.dev/x": "x"}}}},
            "spec.podTemplate.metadata.annotations: Invalid value: annotations must not begin with zerotide.dev/",
        ),
        ({**MODEL, "access": {"auth": "None"}}, "spec.access.auth: Unsupported value"),
        ({**MODEL, "access": {"auth": "JWT"}}, "spec.access.jwt: Invalid value: access.jwt must be given where"),
        ({**MODEL, "access": {"jwt": JWT}}, "spec.access.jwt: Invalid value: access.jwt must be given where"),
        (
            {**MODEL, "access": {"auth": "JWT", "jwt": {**JWT, "jwksConfigMap": {"name": "k"}}}},
            "spec.access.jwt: Invalid value: must have exactly one of jwksURL and jwksConfigMap",
        ),
        (
            {**MODEL, "access": {"auth": "JWT", "jwt": {"issuer": "i", "audiences": ["a"]}}},
            "spec.access.jwt: Invalid value: must have exactly one of jwksURL and jwksConfigMap",
        ),
        (
            {**MODEL, "access": {"auth": "JWT", "jwt": {**JWT, "jwksURL": "http://a/keys"}}},
            'spec.access.jwt.jwksURL: Invalid value: "http://a/keys": must be an https URL',
        ),
        ({**MODEL, "access": {"auth": "JWT", "jwt": {**JWT, "audiences": []}}}, "spec.access.jwt.audiences"),
        ({**MODEL, "cache": {"type": "Node"}}, "spec.cache.type: Unsupported value"),
        (
            {"model": {"uri": "hf://a/b"}, "cache": {"type": "PersistentVolumeClaim"}},
            "spec.cache.persistentVolumeClaim: Invalid value: cache.persistentVolumeClaim must be given where",
        ),
        (
            {"model": {"uri": "hf://a/b"}, "cache": {"persistentVolumeClaim": {"claimName": "c"}}},
            "spec.cache.persistentVolumeClaim: Invalid value: cache.persistentVolumeClaim must be given where",
        ),
        (
            {**MODEL, "cache": {"type": "PersistentVolumeClaim", "persistentVolumeClaim": {"claimName": "c"}}},
            "spec.cache.type: Invalid value: cache.type must be None where runtime.engine is zerotide and model",
        ),
        ({**MODEL, "replica": 1}, 'unknown field "spec.replica"'),
        ({**MODEL, "scaling": {"preheat": {}}}, 'unknown field "spec.scaling.preheat"'),
        ({**MODEL, "scaling": {"prewarm": {"mode": "Always"}}}, "spec.scaling.prewarm.mode: Unsupported value"),
        ({**MODEL, "scaling": {"prewarm": {"budget": "30s"}}}, "spec.scaling.prewarm.budget: Invalid value"),
        ({**MODEL, "scaling": {"schedules": [{**WINDOW, "start": "0 25 * * *"}]}}, "start: Invalid value"),
        ({**MODEL, "scaling": {"schedules": [{**WINDOW, "timeZone": "Mars/Base"}]}}, "timeZone: Invalid value"),
        ({**MODEL, "scaling": {"schedules": [{**WINDOW, "minReplicas": 2}]}}, "spec.scaling.schedules: Invalid value"),
        ({**MODEL, "scaling": {"schedules": [WINDOW, WINDOW]}}, "spec.scaling.schedules[1]: Duplicate value"),
        ({**MODEL, "scaling": {"override": {"minReplicas": 1, "until": "noon"}}}, "spec.scaling.override.until"),
    ],
)
def test_a_refusal_names_the_field_and_the_rule(server: Server, spec: dict[str, Any], words: str) -> None:
    said = refusal(server, endpoint(spec))
    assert said is not None
    assert words in said
    assert not accepts(InferenceEndpoint, endpoint(spec))


@pytest.mark.parametrize("name", ["1a", "a.b", "a" * 47])
def test_names_that_children_could_not_bear_are_refused(server: Server, name: str) -> None:
    said = refusal(server, endpoint(MODEL, name))
    assert said is not None
    assert "metadata.name: Invalid value: metadata.name must begin with a letter" in said


@pytest.mark.parametrize("name", ["a", "a1", "a" * 46])
def test_names_that_children_can_bear_are_accepted(server: Server, name: str) -> None:
    assert refusal(server, endpoint(MODEL, name)) is None


def accepts(model: type[InferenceEndpoint] | type[APIKey], obj: dict[str, Any]) -> bool:
    try:
        model.model_validate(obj)
    except ValidationError:
        return False
    return True


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example(spec={**MODEL, "scaling": {"idle": {"timeout": "24h1ms"}}})
@example(spec={**MODEL, "hold": {"maxBytes": "9P"}})
@example(spec={**MODEL, "podTemplate": {"spec": {"x": {"a": [1, None]}}}})
@given(spec=specs())
def test_the_types_and_the_server_agree(server: Server, spec: dict[str, Any]) -> None:
    obj = endpoint(spec)
    said = refusal(server, obj)
    assert (said is None) == accepts(InferenceEndpoint, obj), said or "the server accepts it"


def full_status() -> dict[str, Any]:
    """Return a status with every field."""
    decision = Decision(time=NOW, from_replicas=0, to_replicas=1, reason="WakeRequested", message="one request is held")
    status = Status(
        state="Awake",
        replicas=1,
        ready_replicas=1,
        desired_replicas=1,
        selector="zerotide.dev/endpoint=full",
        observed_generation=1,
        url="http://full.api-tests",
        last_activity_time=NOW,
        kept_awake_by="1 request in flight",
        model=ModelStatus(
            name="full", uri="image:///m", revision="0" * 40, digest=f"sha256:{'0' * 64}", bytes=141_000_000_000
        ),
        accelerator=AcceleratorStatus(class_name="nvidia-h100-80gb", count=2, summary="2 × nvidia-h100-80gb"),
        wake_request=WakeRequest(id="a" * 32, time="2026-11-22T18:00:00.000001Z", by="zerotide-activator-0"),
        handled_wake_request="a" * 32,
        last_wake=LastWake.of("a" * 32, NOW, "Request", {"provision": 250_000, "load": 1_000_000, "firstByte": 9_000}),
        handled_annotations=HandledAnnotations(wake_requested_at=NOW, sleep_requested_at=NOW),
        verification=VerificationStatus(spec_digest="0" * 16, outcome="Failed", failures=3, reason="R", message="why"),
        failed_starts=FailedStarts(
            count=1, since=NOW, times=(NOW,), reason="OutOfMemory", message="it ended", retry_time=NOW
        ),
        cold_starts=ColdStarts(window=20, count=1, p50="1s259ms", p90="1s259ms", recent=("1s259ms",)),
        idle=LearnedIdle(timeout="42s", message="why", silences=9, history="3:4 12:5", held_per_wake="1.25", wakes=2),
        schedule=OpenWindow(name="w", min_replicas=1, start_time=NOW, end_time=NOW, lead_time="9s"),
        override=LiveOverride(min_replicas=2, until=NOW),
        cost=Cost(
            currency="USD",
            month="2026-11",
            month_to_date="12.5",
            day="2026-11-22",
            day_to_date="0.5",
            last_cold_start="0.01",
            per_million_tokens="3.2",
            failed_starts=FailedStartsCost(accelerator_seconds=84, amount="0.1176"),
        ),
        prewarm=PrewarmStatus(
            message="why",
            next_time=NOW,
            met=2,
            missed=1,
            saved="9s",
            spent="10m",
            spent_day=NOW,
            opening=PrewarmOpening(opened_time=NOW, start_time=NOW, end_time=NOW, lead="5m", set_aside="10m"),
            opened_for=NOW,
            since=NOW,
            history="9:3:0:5 33:1:2:2",
            newest=NOW,
        ),
        last_decision=decision,
        decisions=(decision,) * 5,
    ).dump()
    return {**status, "conditions": conditions(State.AWAKE, Reason.SERVING, "one replica serves", 1, [], 10**15)}


@pytest.fixture(scope="module")
def kept(server: Server) -> str:
    """Return the path of an endpoint that exists; suspended, so that an operator leaves it asleep."""
    create(server, endpoint({**MODEL, "suspend": True, "scaling": {"maxReplicas": 3}}, "full"), keep=True)
    return f"{ROOT}/{NAMESPACE}/inferenceendpoints/full"


def test_every_field_of_the_status_is_stored_as_it_was(server: Server, kept: str) -> None:
    status = full_status()
    assert set(status) == {field.alias for field in Status.model_fields.values()}
    body = endpoint(MODEL, "full", NAMESPACE)
    del body["spec"]
    path = f"{kept}/status?fieldManager=api-tests&force=true&fieldValidation=Strict&dryRun=All"
    made = server.call("PATCH", path, {**body, "status": status}, APPLY)
    assert made["status"] == status
    assert InferenceEndpoint.parse(made).status == Status.model_validate(status)


@pytest.mark.parametrize(
    "status", [{"replicas": -1}, {"lastActivityTime": "now"}, {"decisions": [{}]}, {"state": "x" * 254}, {"p": 1}]
)
def test_a_status_that_the_type_refuses_is_refused(server: Server, kept: str, status: dict[str, Any]) -> None:
    path = f"{kept}/status?fieldValidation=Strict&dryRun=All"
    with pytest.raises(Refused, match=r"status|unknown field"):
        server.call("PATCH", path, {"status": status}, MERGE)
    with pytest.raises(ValidationError):
        Status.model_validate(status)


def test_scale_pins_replicas_within_the_maximum(server: Server, kept: str) -> None:
    def scale(replicas: int) -> dict[str, Any]:
        body = {"spec": {"replicas": replicas}}
        made: dict[str, Any] = server.call("PATCH", f"{kept}/scale?dryRun=All", body, MERGE)
        return made

    assert scale(2)["spec"]["replicas"] == 2
    assert scale(0)["spec"].get("replicas", 0) == 0
    with pytest.raises(Refused, match=r"scaling\.pinnedReplicas must not be greater than scaling\.maxReplicas"):
        scale(4)


def test_endpoints_are_selected_by_engine(server: Server, kept: str) -> None:
    def found(engine: str) -> list[str]:
        path = f"{ROOT}/{NAMESPACE}/inferenceendpoints?fieldSelector=spec.runtime.engine={engine}"
        return [item["metadata"]["name"] for item in server.call("GET", path)["items"]]

    assert found("zerotide") == ["full"]
    assert found("vllm") == []


def key(**spec: Any) -> dict[str, Any]:
    """Return an APIKey with these fields beside the required ones."""
    return {
        "apiVersion": "zerotide.dev/v1alpha1",
        "kind": "APIKey",
        "metadata": {"name": "ci", "namespace": "default"},
        "spec": {"digest": "sha256:" + "0" * 64, "consumer": "team-a", **spec},
    }


@pytest.mark.parametrize(
    "spec",
    [
        {},
        {"endpoints": ["a", "b"]},
        {"endpoints": []},
        {"endpoints": ["a", "a"]},
        {"endpoints": ["A"]},
        {"digest": "sha256:0"},
        {"consumer": "a/b"},
        {"consumer": ""},
        {"consumer": "a" * 64},
        {"expirationTime": "2027-01-01T00:00:00Z"},
        {"expirationTime": "2027-01-01T00:00:00.123+02:00"},
        {"expirationTime": "tomorrow"},
        {"maxInFlight": 0},
        {"maxInFlight": 1, "suspend": True},
        {"secret": "x"},
    ],
    ids=json.dumps,
)
def test_the_type_and_the_server_agree_about_keys(server: Server, spec: dict[str, Any]) -> None:
    said = refusal(server, key(**spec))
    assert (said is None) == accepts(APIKey, key(**spec)), said or "the server accepts it"


@pytest.mark.parametrize("name", ["a.b", "a" * 33])
def test_names_that_a_key_could_not_carry_are_refused(server: Server, name: str) -> None:
    said = refusal(server, {**key(), "metadata": {"name": name}})
    assert said is not None
    assert "metadata.name must be at most 32" in said


def test_a_key_never_changes_its_digest_or_its_consumer(server: Server) -> None:
    create(server, key(), keep=True)
    path = f"{ROOT}/{NAMESPACE}/apikeys/ci?dryRun=All"
    for change in ({"digest": "sha256:" + "1" * 64}, {"consumer": "team-b"}):
        with pytest.raises(Refused, match="must not change: create a second APIKey"):
            server.call("PATCH", path, {"spec": change}, MERGE)
    changed = server.call("PATCH", path, {"spec": {"suspend": True}}, MERGE)
    assert changed["spec"]["suspend"] is True
