"""The chart's CustomResourceDefinitions are the generated ones, upgraded with it and kept on uninstall."""

from __future__ import annotations

import copy
from pathlib import Path

import yaml

from tests.chart.rendering import CHART, Object, find, render

GENERATED = Path(__file__).resolve().parents[2] / "crds"


def test_the_chart_holds_the_generated_bytes() -> None:
    """`make crds` writes both; a change of one alone is a mistake."""
    ours = {path.name: path.read_bytes() for path in (CHART / "files/crds").iterdir()}
    assert ours == {path.name: path.read_bytes() for path in GENERATED.glob("*.yaml")}


def test_rendering_only_adds_the_annotation() -> None:
    """Nothing else of a definition may differ from the generated one."""
    for path in GENERATED.glob("*.yaml"):
        expected: Object = yaml.safe_load(path.read_text())
        name = expected["metadata"]["name"]
        assert find(render({"crds": {"keep": False}}), "CustomResourceDefinition", name) == expected
        kept = copy.deepcopy(find(render(), "CustomResourceDefinition", name))
        assert kept["metadata"].pop("annotations") == {"helm.sh/resource-policy": "keep"}
        assert kept == expected
