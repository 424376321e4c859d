"""`zerotide deploy --dry-run`: what would be applied, and what is refused before any connection."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
import yaml

from zerotide.cli.main import main

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def dry(capsys: pytest.CaptureFixture[str], *args: str) -> tuple[int, Any, str]:
    """Run `deploy --dry-run` and return the exit code, the YAML on stdout, and stderr."""
    code = main(["deploy", "--dry-run", *args])
    out, err = capsys.readouterr()
    return code, yaml.safe_load(out), err


def test_options_say_only_what_was_given(capsys: pytest.CaptureFixture[str]) -> None:
    """Everything else is left to the defaults of the cluster's version."""
    code, endpoint, _ = dry(capsys, "small", "--model", "hf://team/model")
    assert code == 0
    assert endpoint == {
        "apiVersion": "zerotide.dev/v1alpha1",
        "kind": "InferenceEndpoint",
        "metadata": {"name": "small"},
        "spec": {"model": {"uri": "hf://team/model"}},
    }


def test_every_option(capsys: pytest.CaptureFixture[str]) -> None:
    """Each has its field."""
    options = "--engine vllm --image r.example/vllm:1 --gpus 2 --gpu-class nvidia-h100-80gb --cpu 4 --memory 32Gi"
    more = "--min 1 --max 3 --idle 10m --secret hf --open --verify"
    _, endpoint, _ = dry(capsys, "big", "--model", "hf://team/model", *options.split(), *more.split())
    assert endpoint["spec"] == {
        "model": {"uri": "hf://team/model", "secretRef": {"name": "hf"}},
        "runtime": {"engine": "vllm", "image": "r.example/vllm:1"},
        "accelerator": {"count": 2, "className": "nvidia-h100-80gb"},
        "resources": {"requests": {"cpu": "4", "memory": "32Gi"}, "limits": {"memory": "32Gi"}},
        "scaling": {"minReplicas": 1, "maxReplicas": 3, "idle": {"timeout": "10m"}},
        "start": {"verify": "OnChange"},
        "access": {"auth": "Open"},
    }


def test_a_minimum_raises_the_maximum(capsys: pytest.CaptureFixture[str]) -> None:
    """`--min 3` alone is meant to work."""
    _, endpoint, _ = dry(capsys, "m", "--model", "hf://a/b", "--min", "3")
    assert endpoint["spec"]["scaling"] == {"minReplicas": 3, "maxReplicas": 3}


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["m"], "give an endpoint's name and --model"),
        (["m", "--model", "ftp://x"], "model.uri: must be hf://"),
        (["M", "--model", "hf://a/b"], "metadata.name must begin with a letter"),
        (["m", "--model", "hf://a/b", "--idle", "1s"], "scaling.idle.timeout"),
        (["m", "--model", "hf://a/b", "--min", "3", "--max", "2"], "minReplicas must not be greater"),
        (["m", "--model", "hf://a/b", "--gpu-class", "x"], "--gpu-class needs --gpus"),
    ],
)
def test_bad_options(args: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A usage error that names the field and the rule."""
    code, _, err = dry(capsys, *args)
    assert code == 2 and words in err


def test_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Checked as it is; a status in it is dropped."""
    path = tmp_path / "m.yaml"
    text = "kind: InferenceEndpoint\napiVersion: zerotide.dev/v1alpha1\nmetadata: {name: m, namespace: x}\n"
    path.write_text(f"{text}spec: {{model: {{uri: 'hf://a/b'}}}}\nstatus: {{state: Awake}}\n")
    code, endpoint, _ = dry(capsys, "-f", str(path))
    assert code == 0 and "status" not in endpoint and endpoint["metadata"]["namespace"] == "x"
    monkeypatch.setattr("sys.stdin", io.StringIO(path.read_text()))
    assert dry(capsys, "-f", "-")[1] == endpoint


@pytest.mark.parametrize(
    ("text", "code", "words"),
    [
        ("{", 1, "is not YAML"),
        ("kind: Pod\n", 2, "exactly one InferenceEndpoint"),
        ("kind: InferenceEndpoint\n---\nkind: InferenceEndpoint\n", 2, "exactly one InferenceEndpoint"),
        ("kind: InferenceEndpoint\nspec: {}\n", 2, "metadata.name is missing"),
        ("kind: InferenceEndpoint\nmetadata: {name: m}\nspec: {modle: {}}\n", 2, "modle"),
    ],
)
def test_bad_files(text: str, code: int, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each is refused with what is wrong."""
    path = tmp_path / "m.yaml"
    path.write_text(text)
    got, _, err = dry(capsys, "-f", str(path))
    assert (got, words in err) == (code, True), err


def test_a_file_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    """Named with the reason."""
    code, _, err = dry(capsys, "-f", "/nonexistent.yaml")
    assert code == 1 and "cannot read /nonexistent.yaml: No such file" in err
