"""Publishing: from GGUF and from Hugging Face folders, to a folder that anything reads."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.runtime.models import make_tiny
from zerotide_runtime.commands import publish as command
from zerotide_runtime.errors import InvalidModel, ModelNotFound, UnsupportedModel
from zerotide_runtime.weights.publish import CHUNK, publish
from zerotide_runtime.weights.source import open_source


def test_a_folder_keeps_its_weights(tiny: Path, tmp_path: Path) -> None:
    publish(tiny, tmp_path / "out")
    before, after = load_file(tiny / "model.safetensors"), load_file(tmp_path / "out" / "model.safetensors")
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert json.loads((tmp_path / "out" / "config.json").read_text())["dtype"] == "float32"
    assert (tmp_path / "out" / "chat_template.jinja").read_text() == (tiny / "chat_template.jinja").read_text()


def test_a_folder_may_have_several_weight_files(tiny: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    sharded = tmp_path / "sharded"
    AutoModelForCausalLM.from_pretrained(tiny).save_pretrained(sharded, max_shard_size="100KB")
    (sharded / "tokenizer.json").write_text((tiny / "tokenizer.json").read_text())
    assert len(list(sharded.glob("*.safetensors"))) > 1
    publish(sharded, tmp_path / "out")
    before, after = load_file(tiny / "model.safetensors"), load_file(tmp_path / "out" / "model.safetensors")
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_half_precision_halves_the_file(tiny: Path, tmp_path: Path) -> None:
    publish(tiny, tmp_path / "out", "bfloat16")
    before, after = load_file(tiny / "model.safetensors"), load_file(tmp_path / "out" / "model.safetensors")
    assert all(torch.equal(before[name].bfloat16(), after[name]) for name in before)


def test_a_tied_head_is_stored_once(tmp_path: Path) -> None:
    publish(make_tiny(tmp_path / "tied", tie_word_embeddings=True), tmp_path / "out")
    assert "lm_head.weight" not in load_file(tmp_path / "out" / "model.safetensors")


def test_the_index_holds_every_chunks_digest(published: Path) -> None:
    index = json.loads((published / "index.json").read_text())
    assert index["chunkBytes"] == CHUNK
    assert index["files"].keys() == {path.name for path in published.iterdir()} - {"index.json"}
    entry = index["files"]["model.safetensors"]
    content = (published / "model.safetensors").read_bytes()
    assert entry["bytes"] == len(content)
    expected = [hashlib.sha256(content[at : at + CHUNK]).hexdigest() for at in range(0, len(content), CHUNK)]
    assert entry["sha256"] == expected
    assert len(expected) == 9


def test_publishing_twice_gives_the_same_digest(tiny: Path, tmp_path: Path) -> None:
    assert publish(tiny, tmp_path / "a")["digest"] == publish(tiny, tmp_path / "b")["digest"]


def test_transformers_reads_the_result(published: Path) -> None:
    from transformers import AutoConfig, AutoTokenizer

    assert AutoConfig.from_pretrained(published).num_hidden_layers == 30
    tokenizer = AutoTokenizer.from_pretrained(published)
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": "Hi"}], tokenize=False, add_generation_prompt=True
    )
    assert isinstance(prompt, str)
    assert prompt.endswith("<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n")


def test_an_existing_target_is_left_alone(tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(InvalidModel, match="exists already"):
        publish(tiny, tmp_path / "out")


def test_nothing_is_left_behind_by_a_failure(tmp_path: Path) -> None:
    make_tiny(tmp_path / "model")
    file = tmp_path / "model" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-5])
    with pytest.raises(InvalidModel, match="damaged"):
        publish(tmp_path / "model", tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_sources_that_are_none_are_refused(tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match="does not exist"):
        open_source(tmp_path / "missing")
    with pytest.raises(ModelNotFound, match=r"neither a config\.json nor"):
        open_source(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ModelNotFound, match=r"no model\.safetensors"):
        open_source(tmp_path)
    (tmp_path / "model.safetensors").write_bytes((tiny / "model.safetensors").read_bytes())
    with pytest.raises(UnsupportedModel, match=r"no tokenizer\.json"):
        open_source(tmp_path)


@pytest.mark.parametrize(
    "index", ["nonsense", '{"weight_map": {"a": "../../etc/passwd"}}', '{"weight_map": {"a": "x"}}']
)
def test_an_index_may_not_lead_astray(tmp_path: Path, index: str) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors.index.json").write_text(index)
    with pytest.raises(InvalidModel):
        open_source(tmp_path)


def test_the_command_prints_the_digest(tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command([str(tiny), str(tmp_path / "out")]) == 0
    assert capsys.readouterr().out.startswith("sha256:")
    assert command([str(tmp_path / "nothing"), str(tmp_path / "out2")]) == 1
    assert "ModelNotFound" in capsys.readouterr().err


def test_the_image_publishes_with_what_it_copies() -> None:
    """The stage that publishes has a few files of the code only, so that changes of others make no new layer."""
    root = Path(__file__).parents[2] / "runtime-image"
    stage = re.search(
        r"AS weights\n(.*?)\nRUN python3 -m zerotide_runtime publish", (root / "Dockerfile").read_text(), re.S
    )
    assert stage is not None
    copied = set(re.findall(r"zerotide_runtime/\S+", stage[1]))
    script = (
        "import sys, zerotide_runtime.__main__, zerotide_runtime.commands, zerotide_runtime.weights.publish\n"
        "print(*(module.__file__ for name, module in sys.modules.items() if name.startswith('zerotide_runtime')))"
    )
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    needed = {str(Path(file).relative_to(root)) for file in told.split()}
    assert "zerotide_runtime/weights/publish.py" in needed
    assert {file for file in needed if not file.startswith("zerotide_runtime/weights/")} <= copied
