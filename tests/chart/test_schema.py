"""A typo in a values file is refused, and every value is explained."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from tests.chart.rendering import CHART, Object, RenderFailed, render
from zerotide.api.names import CLUSTER_DOMAIN, MAX_CLUSTER_DOMAIN, PATTERN_CLUSTER_DOMAIN

SCHEMA: Object = json.loads((CHART / "values.schema.json").read_text())
VALUES: Object = yaml.safe_load((CHART / "values.yaml").read_text())


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({"polciy": {}}, "polciy"),
        ({"policy": {"image": []}}, "image"),
        ({"operator": {"replica": 1}}, "replica"),
        ({"operator": {"replicas": 0}}, "replicas"),
        ({"operator": {"replicas": "2"}}, "replicas"),
        ({"activator": {"logLevel": "verbose"}}, "logLevel"),
        ({"policy": {"images": ["ghcr.io/team*"]}}, "images"),
        ({"policy": {"nodePaths": ["models/"]}}, "nodePaths"),
        ({"policy": {"egress": {"allow": ["10.0.0.1"]}}}, "allow"),
        ({"policy": {"egress": {"deny": []}}}, "deny"),
        ({"policy": {"egress": {"caConfigMap": "No_Name"}}}, "caConfigMap"),
        ({"images": {"runtimes": {"ollama": "x"}}}, "ollama"),
        ({"images": {"zerotide": {"digest": "sha256:short"}}}, "digest"),
        ({"gateway": {"service": {"type": "ExternalName"}}}, "type"),
        ({"service": {"type": "ClusterIP"}}, "type"),
        ({"service": {"type": "ExternalName"}, "gateway": {"service": {"port": 8080}}}, "port"),
        ({"clusterDomain": "cluster.local."}, "clusterDomain"),
        ({"clusterDomain": ""}, "clusterDomain"),
        ({"gateway": {"limits": {"headTime": "10"}}}, "headTime"),
        ({"gateway": {"limits": {"bodyBytes": "1GB"}}}, "bodyBytes"),
        ({"gateway": {"limits": {"connections": 0}}}, "connections"),
        ({"activator": {"processes": 0}}, "processes"),
        ({"gateway": {"tls": {"secretName": "No_Name"}}}, "secretName"),
        ({"gateway": {"proxyProtocol": {"enabled": True}}}, "trusted"),
        ({"gateway": {"proxyProtocol": {"trusted": ["10.0.0.1"]}}}, "trusted"),
        ({"exporter": {"prices": {"prices": [{"name": "cpu", "amount": 0.04}]}}}, "prices"),
        ({"exporter": {"persistence": {"size": "1GB"}}}, "size"),
        ({"activator": {"hold": {"total": {"maxRequests": 0}}}}, "maxRequests"),
        ({"uninstall": {"waitSeconds": -1}}, "waitSeconds"),
    ],
)
def test_bad_values_are_refused(values: Object, complaint: str) -> None:
    """Helm names the value that is wrong."""
    with pytest.raises(RenderFailed, match=complaint):
        render(values)


def objects(schema: Any, path: str = "") -> Iterator[tuple[str, Object]]:
    """Yield every object schema with its path."""
    if isinstance(schema, dict):
        if schema.get("type") == "object":
            yield path, schema
        for key, value in schema.items():
            yield from objects(value, f"{path}/{key}")
    elif isinstance(schema, list):
        for number, value in enumerate(schema):
            yield from objects(value, f"{path}/{number}")


def test_every_object_says_what_it_takes() -> None:
    """Closed, or a map of strings; what only Kubernetes can check is marked so."""
    for path, schema in objects(SCHEMA):
        assert "additionalProperties" in schema, path
        if schema["additionalProperties"] is True:
            assert path in ("/properties/global", "/definitions/kubernetes"), path


def leaves(values: Object, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield the path of every value."""
    for key, value in values.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, (*path, key))
        else:
            yield (*path, key)


def test_a_domain_is_what_the_operator_takes_for_one() -> None:
    """By the same pattern, and as long at most."""
    domain = SCHEMA["properties"]["clusterDomain"]
    assert (domain["pattern"], domain["maxLength"]) == (PATTERN_CLUSTER_DOMAIN, MAX_CLUSTER_DOMAIN)
    assert VALUES["clusterDomain"] == CLUSTER_DOMAIN


def test_every_value_is_in_the_schema_and_back() -> None:
    """Neither has something that the other lacks; what the schema leaves open is the user's own."""

    def known(schema: Object, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
        for key, inner in schema.get("properties", {}).items():
            resolved = SCHEMA["definitions"][inner["$ref"].rsplit("/", 1)[1]] if "$ref" in inner else inner
            yield (*path, key)
            yield from known(resolved, (*path, key))

    in_schema = set(known(SCHEMA))
    in_values = {path[:2] if path[1:2] == ("resources",) else path for path in leaves(VALUES)}
    assert in_values <= in_schema
    groups = {path[:length] for path in in_values for length in range(1, len(path))}
    optional = {path for path in in_schema if path[:2] == ("exporter", "prices") or "resources" in path}
    assert in_schema - in_values - groups - optional == {("global",)}


def test_every_value_has_a_comment() -> None:
    """Right above the value, in values.yaml."""
    lines = (CHART / "values.yaml").read_text().splitlines()
    undocumented = []
    for number, line in enumerate(lines):
        stripped = line.strip()
        if not stripped or stripped.startswith("#") or stripped.endswith(":"):
            continue
        # Requests and limits are explained by the `resources` above them.
        if not lines[number - 1].strip().startswith("#") and not stripped.startswith(("requests:", "limits:")):
            undocumented.append(stripped)
    assert undocumented == []
