"""A real API server takes the CRDs, fills the same defaults and refuses the same specs as the types do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings

from tests.api.objects import MODEL, PLURALS, accepts, create, refusal
from tests.api.server import Server
from tests.api.strategies import endpoint, specs
from zerotide.api.endpoint import InferenceEndpoint

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.yaml"))
JWT: dict[str, Any] = {"issuer": "i", "audiences": ["a"], "jwksURL": "https://a/keys"}
REF = {"name": "s", "key": "k"}
WINDOW = {"name": "w", "start": "0 8 * * 1-5", "duration": "8h"}
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


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example(spec={**MODEL, "scaling": {"idle": {"timeout": "24h1ms"}}})
@example(spec={**MODEL, "hold": {"maxBytes": "9P"}})
@example(spec={**MODEL, "podTemplate": {"spec": {"x": {"a": [1, None]}}}})
@given(spec=specs())
def test_the_types_and_the_server_agree(server: Server, spec: dict[str, Any]) -> None:
    obj = endpoint(spec)
    said = refusal(server, obj)
    assert (said is None) == accepts(InferenceEndpoint, obj), said or "the server accepts it"
