"""Render the chart as Helm does, once per set of values, and find objects in what comes out."""

from __future__ import annotations

import functools
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from e2e.tools import folder_of

CHART = Path(__file__).resolve().parents[2] / "charts/zerotide"
KUBERNETES = "1.37.2"

Object = dict[str, Any]


class RenderFailed(AssertionError):
    """Helm refused; the message is Helm's."""


def helm(*args: str, stdin: str = "") -> str:
    """Run Helm and return its stdout. Raises RenderFailed."""
    command = [str(folder_of("helm") / "helm"), *args]
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=60)
    if done.returncode != 0:
        raise RenderFailed(done.stderr)
    return done.stdout


def render(values: Object | None = None, namespace: str = "zerotide-system") -> list[Object]:
    """Return every object that the chart makes of the values, hooks included."""
    return list(_render(json.dumps(values or {}, sort_keys=True), namespace))


@functools.lru_cache(maxsize=64)
def _render(values: str, namespace: str) -> tuple[Object, ...]:
    options = ["-n", namespace, "--kube-version", KUBERNETES, "-f", "-"]
    text = helm("template", "zerotide", str(CHART), *options, stdin=values)
    return tuple(document for document in yaml.safe_load_all(text) if document)


def find(objects: list[Object], kind: str, name: str) -> Object:
    """Return the one object of a kind and name."""
    found = [item for item in objects if item["kind"] == kind and item["metadata"]["name"] == name]
    assert len(found) == 1, f"{len(found)} objects {kind} {name}"
    return found[0]


def names(objects: list[Object], kind: str) -> set[str]:
    """Return the names of all objects of a kind."""
    return {item["metadata"]["name"] for item in objects if item["kind"] == kind}


def pods(objects: list[Object]) -> Iterator[tuple[str, Object]]:
    """Yield the name and spec of every pod that the objects lead to."""
    for item in objects:
        name = f"{item['kind']}/{item['metadata']['name']}"
        if item["kind"] == "Pod":
            yield name, item["spec"]
        elif item["kind"] in ("Deployment", "Job"):
            yield name, item["spec"]["template"]["spec"]


def environment(container: Object) -> dict[str, str]:
    """Return the literal environment variables of a container."""
    return {entry["name"]: entry["value"] for entry in container["env"] if "value" in entry}
