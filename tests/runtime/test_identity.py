"""What a model folder tells of its content, without reading it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from zerotide_runtime.identity import identity
from zerotide_runtime.weights.publish import publish

COMMIT = "0e9e39f249a16976918f6564b8830bc894c89659"


def test_a_published_folder_has_a_digest(tiny: Path, tmp_path: Path) -> None:
    """That of its index, as long as its files are those that were digested."""
    index = publish(tiny, tmp_path / "out")
    weights = tmp_path / "out" / "model.safetensors"
    assert identity(tmp_path / "out") == {"bytes": weights.stat().st_size, "digest": index["digest"]}
    (tmp_path / "out" / "config.json").write_text("{}")
    assert identity(tmp_path / "out") == {"bytes": weights.stat().st_size}
    (tmp_path / "out" / "config.json").unlink()
    assert "digest" not in identity(tmp_path / "out")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"digest": "sha256:0", "files": {}}', '{"digest": 1, "files": [1]}'])
def test_an_index_that_makes_no_sense_is_none(text: str, tiny: Path, tmp_path: Path) -> None:
    """It is data from outside, and no reason not to start."""
    publish(tiny, tmp_path / "out")
    (tmp_path / "out" / "index.json").write_text(text)
    assert "digest" not in identity(tmp_path / "out")


def test_a_folder_of_the_hub_has_a_commit(tiny: Path, tmp_path: Path) -> None:
    """By the name under which the Hub's client keeps it."""
    for parent, name, known in (("snapshots", COMMIT, True), ("snapshots", "main", False), ("models", COMMIT, False)):
        folder = tmp_path / parent / name
        folder.parent.mkdir(exist_ok=True)
        folder.symlink_to(tiny, target_is_directory=True)
        assert identity(folder).get("revision") == (COMMIT if known else None)
        assert identity(folder)["bytes"] == (tiny / "model.safetensors").stat().st_size
    assert json.dumps(identity(tiny))
