"""The committed CRDs are the generated ones, and hold nothing that an API server or its users would stumble over."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from zerotide.api.crd import definitions, main, render, schema_of
from zerotide.api.endpoint import InferenceEndpoint

FOLDER = Path(__file__).parents[2] / "crds"
KNOWN_FORMATS = {"date-time", "int32", "int64"}
KNOWN_KEYS = {
    "type",
    "description",
    "properties",
    "required",
    "items",
    "additionalProperties",
    "default",
    "enum",
    "format",
    "pattern",
    "minimum",
    "maximum",
    "minLength",
    "maxLength",
    "minItems",
    "maxItems",
    "maxProperties",
    "x-kubernetes-validations",
    "x-kubernetes-list-type",
    "x-kubernetes-list-map-keys",
    "x-kubernetes-preserve-unknown-fields",
}
FILES = definitions()


def schemas() -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every schema below spec and status, with its path."""
    for file, definition in FILES.items():
        root = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
        for name in ("spec", "status"):
            if name in root["properties"]:
                yield from walk(f"{file}:{name}", root["properties"][name])


def walk(path: str, schema: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    yield path, schema
    for name, inner in schema.get("properties", {}).items():
        yield from walk(f"{path}.{name}", inner)
    for key in ("items", "additionalProperties"):
        if key in schema:
            yield from walk(f"{path}[]", schema[key])


EVERY = list(schemas())
EVERY_SCHEMA = pytest.mark.parametrize(("path", "schema"), EVERY, ids=[path for path, _ in EVERY])


def test_the_committed_files_are_the_generated_ones() -> None:
    assert {path.name: path.read_text() for path in FOLDER.glob("*.yaml")} == {
        name: render(definition) for name, definition in FILES.items()
    }


def test_the_command_writes_the_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "out")]) == 0
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == {
        path.name: path.read_bytes() for path in FOLDER.glob("*.yaml")
    }
    assert main([]) == 2
    assert "usage:" in capsys.readouterr().err


def test_the_files_read_back_as_what_they_were() -> None:
    for definition in FILES.values():
        assert yaml.safe_load(render(definition)) == definition


@EVERY_SCHEMA
def test_only_words_of_structural_schemas_are_used(path: str, schema: dict[str, Any]) -> None:
    assert set(schema) <= KNOWN_KEYS
    assert "type" in schema
    assert schema.get("format", "date-time") in KNOWN_FORMATS


@EVERY_SCHEMA
def test_everything_is_bounded(path: str, schema: dict[str, Any]) -> None:
    if schema["type"] == "string" and "enum" not in schema:
        assert schema["maxLength"] <= 8192
    if schema["type"] == "array":
        assert schema["maxItems"] <= 256
        assert schema["x-kubernetes-list-type"] in ("atomic", "set", "map")
    if "additionalProperties" in schema:
        assert schema["maxProperties"] <= 64
    if schema["type"] == "integer":
        assert "minimum" in schema
    assert schema["type"] != "number"


@EVERY_SCHEMA
def test_every_field_is_described(path: str, schema: dict[str, Any]) -> None:
    if not path.endswith("[]"):
        assert re.fullmatch(r"[A-Za-z0-9].*\.", schema["description"], re.DOTALL), schema.get("description")


@EVERY_SCHEMA
def test_no_enum_value_reads_as_anything_but_a_string(path: str, schema: dict[str, Any]) -> None:
    for value in schema.get("enum", ()):
        if not path.endswith("conditions[].status"):
            assert yaml.safe_load(value) == value


@EVERY_SCHEMA
def test_rules_have_messages_and_name_fields_that_exist(path: str, schema: dict[str, Any]) -> None:
    for rule in schema.get("x-kubernetes-validations", ()):
        assert re.search(r"\bmust\b", rule["message"])
        at = schema
        for name in rule.get("fieldPath", "").split(".")[1:]:
            at = at["properties"][name]


@EVERY_SCHEMA
def test_an_object_of_defaults_has_a_default_itself(path: str, schema: dict[str, Any]) -> None:
    for inner in schema.get("properties", {}).values():
        required = inner.get("required", ())
        has_defaults = any("default" in field for field in inner.get("properties", {}).values())
        optional_by_intent = inner.get("description", "").find("Absent:") >= 0
        if has_defaults and not required and not optional_by_intent:
            assert inner["default"] == {}


def test_properties_named_like_schema_words_survive() -> None:
    schema = schema_of(InferenceEndpoint)["properties"]["spec"]["properties"]
    assert schema["scaling"]["properties"]["pinnedReplicas"]["default"] == 0
    assert schema["cache"]["properties"]["type"]["enum"] == ["None", "PersistentVolumeClaim"]
    assert schema["podTemplate"]["properties"]["metadata"]["type"] == "object"


def test_explain_tells_limits_and_defaults() -> None:
    fields = schema_of(InferenceEndpoint)["properties"]["spec"]["properties"]
    assert fields["hold"]["properties"]["maxBytes"]["description"].endswith("From 64Ki to 64Gi. Default: 64Mi.")
    assert fields["runtime"]["properties"]["port"]["description"].endswith("From 1 to 65535. Default: 8000.")
    assert fields["suspend"]["description"].endswith("Default: false.")
    assert not [path for path, schema in EVERY if "Default: ." in schema.get("description", "")]


def test_the_columns_are_those_of_the_contract() -> None:
    version = FILES["zerotide.dev_inferenceendpoints.yaml"]["spec"]["versions"][0]
    columns = version["additionalPrinterColumns"]
    assert [column["name"] for column in columns if not column.get("priority")] == [
        "State",
        "Ready",
        "Replicas",
        "Accelerator",
        "Cold-P90",
        "Month",
        "Last-Used",
        "Age",
    ]
    assert [column["name"] for column in columns if column.get("priority")] == [
        "Model",
        "Engine",
        "Min",
        "Max",
        "Reason",
        "URL",
    ]


def test_the_definitions_stay_small_enough_for_client_side_apply() -> None:
    for definition in FILES.values():
        assert len(render(definition)) < 131_072
