"""What a model's folder says of its embeddings, and that it gets to where the model is served from."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from tests.runtime.embedders import KIND, make_embedder, reference
from tests.runtime.hub import Hub
from tests.runtime.process import RuntimeProcess
from zerotide_runtime.assets import load_assets
from zerotide_runtime.engine.config import parse_config
from zerotide_runtime.errors import InvalidModel, UnsupportedModel
from zerotide_runtime.pooling import Pooling, read_pooling
from zerotide_runtime.weights.mapped import MappedWeights
from zerotide_runtime.weights.publish import publish


def write(folder: Path, kinds: list[str], pooling: dict[str, Any]) -> Path:
    """Write sentence-transformers' files alone."""
    paths = ["", "1_Pooling", "2_Normalize", "3_More"]
    modules = [{"type": KIND + kind, "path": path} for kind, path in zip(kinds, paths, strict=False)]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    return folder


def test_a_model_without_modules_makes_no_embeddings(tiny: Path) -> None:
    assert load_assets(tiny).pooling is None


def test_what_the_files_say(tmp_path: Path) -> None:
    write(tmp_path, ["Transformer", "Pooling"], {"pooling_mode": "mean"})
    assert read_pooling(tmp_path, {}) == Pooling("mean", normalise=False)
    (tmp_path / "sentence_bert_config.json").write_text('{"max_seq_length": 128}')
    assert read_pooling(tmp_path, {"is_matryoshka": True}) == Pooling("mean", False, 128, None)
    assert read_pooling(tmp_path, {"matryoshka_dimensions": [8]}) == Pooling("mean", False, 128, (8,))


def test_sizes_that_an_embedding_may_be_cut_to() -> None:
    whole, some, any_ = (Pooling("cls", True, dimensions=sizes) for sizes in ((), (8, 16), None))
    assert [size for size in range(20) if whole.cuts_to(size, 18)] == [18]
    assert [size for size in range(20) if some.cuts_to(size, 18)] == [8, 16, 18]
    assert [size for size in range(20) if any_.cuts_to(size, 18)] == list(range(1, 19))


@pytest.mark.parametrize(
    ("kinds", "pooling", "says"),
    [
        (["Transformer", "Pooling", "Dense"], {"pooling_mode": "mean"}, "modules.json has Transformer, Pooling, Dense"),
        (["Transformer", "Pooling"], {"pooling_mode_max_tokens": True}, "pooling_mode_max_tokens"),
        (
            ["Transformer", "Pooling"],
            {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": True},
            "'cls', 'mean'",
        ),
        (["Transformer", "Pooling"], {}, "its pooling is []"),
    ],
)
def test_what_is_not_known_is_said_and_the_model_still_generates(
    kinds: list[str], pooling: dict[str, Any], says: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        assert read_pooling(write(tmp_path, kinds, pooling), {}) is None
    assert says in caplog.text


def test_files_that_are_broken_are_an_error(tmp_path: Path) -> None:
    (tmp_path / "modules.json").write_text("{}")
    write(tmp_path, ["Transformer", "Pooling"], {})
    (tmp_path / "1_Pooling" / "config.json").unlink()
    with pytest.raises(InvalidModel, match=r"is missing, but modules\.json names it"):
        read_pooling(tmp_path, {})
    (tmp_path / "modules.json").write_text('[{"type": "a", "path": "../x"}]')
    with pytest.raises(InvalidModel, match="outside the model's folder"):
        read_pooling(tmp_path, {})
    (tmp_path / "modules.json").write_text("[1]")
    with pytest.raises(InvalidModel, match="is not a list of modules"):
        read_pooling(tmp_path, {})


def test_attention_in_both_directions_is_refused() -> None:
    with pytest.raises(UnsupportedModel, match="is_causal=False"):
        parse_config({"model_type": "qwen2", "is_causal": False})


def bare(folder: Path) -> Path:
    """Save a model again as those that embed often are: without the head's part in the tensors' names."""
    path = folder / "model.safetensors"
    tensors = {name.removeprefix("model."): tensor for name, tensor in load_file(path).items()}
    assert "embed_tokens.weight" in tensors
    save_file(tensors, path, {"format": "pt"})
    return folder


def test_publishing_carries_what_an_embedder_needs(tmp_path: Path) -> None:
    folder = bare(make_embedder(tmp_path / "in", "mean"))
    assert "model.norm.weight" in MappedWeights(folder).tensors
    index = publish(folder, tmp_path / "out")
    assert {"modules.json", "1_Pooling/config.json"} <= index["files"].keys()
    assert load_assets(tmp_path / "out").pooling == load_assets(folder).pooling == Pooling("mean", normalise=True)
    assert "model.norm.weight" in load_file(tmp_path / "out" / "model.safetensors")


def test_an_embedder_of_the_hub_is_served(tmp_path: Path) -> None:
    folder = bare(make_embedder(tmp_path / "in", "mean"))
    (folder / "onnx").mkdir()
    (folder / "onnx" / "config.json").write_text("{}")
    with Hub(folder) as hub:
        env = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home"), "ZEROTIDE_CACHE_DIR": str(tmp_path / "cache")}
        with RuntimeProcess("hf://org/tiny", name="tiny", env={**env, "HF_HUB_DISABLE_XET": "1"}) as server:
            server.ready()
            status, body = server.call("POST", "/v1/embeddings", {"model": "tiny", "input": [5, 6]})
        assert "1_Pooling/config.json" in hub.fetched
        assert not any("onnx" in name for name in hub.fetched)
    assert status == 200
    assert body["data"][0]["embedding"] == pytest.approx(reference(folder, [[5, 6]], "mean")[0].tolist(), abs=2e-5)
