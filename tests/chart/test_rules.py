"""The rules for Prometheus: what promtool says of them, and that they ask for metrics that exist."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from e2e.tools.build import ensure
from tests.chart.rendering import CHART, find, render
from zerotide.activator import metrics as activator
from zerotide.activator.usage import figures
from zerotide.controller.metrics import Metrics
from zerotide.exporter.metrics import LedgerCollector
from zerotide.exporter.service import GAUGES

RULES = CHART / "files" / "rules.yaml"
CASES = Path(__file__).with_name("rules_test.yaml")


@pytest.fixture(scope="module")
def promtool() -> Path:
    """Return Prometheus' own checker of rules."""
    return ensure(["promtool"])["promtool"] / "promtool"


def run(program: Path, *args: str, folder: Path) -> str:
    """Run promtool in a folder and return what it said, which it must have said with a good conscience."""
    done = subprocess.run([program, *args], cwd=folder, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def rules() -> list[dict[str, Any]]:
    """Return every rule of the file."""
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def test_promtool_finds_nothing_in_what_the_chart_makes(promtool: Path, tmp_path: Path) -> None:
    """Both ways give the rules of the file, and those are sound."""
    objects = render({"metrics": {"prometheusRule": {"enabled": True}, "rulesConfigMap": {"enabled": True}}})
    spec = find(objects, "PrometheusRule", "zerotide")["spec"]
    text = find(objects, "ConfigMap", "zerotide-rules")["data"]["zerotide.rules.yaml"]
    assert spec == yaml.safe_load(text) == yaml.safe_load(RULES.read_text())
    (tmp_path / "rules.yaml").write_text(text)
    said = run(promtool, "check", "rules", "--lint=all", "--lint-fatal", "rules.yaml", folder=tmp_path)
    assert f"{len(rules())} rules found" in said


def test_the_rules_say_what_they_should(promtool: Path, tmp_path: Path) -> None:
    """On series as Zerotide gives them: figures, silence where all is well, and an alert for each failure."""
    shutil.copy(RULES, tmp_path / "rules.yaml")
    shutil.copy(CASES, tmp_path)
    assert "SUCCESS" in run(promtool, "test", "rules", CASES.name, folder=tmp_path)
    cases = CASES.read_text()
    for rule in rules():
        name = rule.get("record") or rule["alert"]
        assert name in cases, f"{name} has no case"


def test_every_metric_that_is_asked_for_exists() -> None:
    """A rule on a name that nobody gives would be silent for ever."""
    operator = {family.name for family in Metrics().registry.collect()}
    exporter = {family.name for family in LedgerCollector({}).collect()} | set(GAUGES)
    sources = Path(activator.__file__).read_text() + Path(figures.__file__).read_text()
    known = operator | exporter | set(re.findall(r"zerotide_[a-z_]+", sources))
    asked = {name for rule in rules() for name in re.findall(r"(?<!:)\bzerotide_[a-z_]+\b(?!:)", rule["expr"])}
    assert {re.sub(r"_(total|bucket)$", "", name) for name in asked} - known == set()
    assert len(asked) > 9


@pytest.mark.parametrize(
    ("way", "kind", "name"),
    [
        ("prometheusRule", "PrometheusRule", "zerotide"),
        ("rulesConfigMap", "ConfigMap", "zerotide-rules"),
    ],
)
def test_prometheus_finds_them_by_labels(way: str, kind: str, name: str) -> None:
    objects = render({"metrics": {way: {"enabled": True, "labels": {"release": "prometheus"}}}})
    assert find(objects, kind, name)["metadata"]["labels"]["release"] == "prometheus"
