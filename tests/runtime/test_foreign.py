"""Architectures that are left to transformers: the same answers as by itself, alone, in turn and after a preemption."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.runtime.models import make_tiny
from tests.runtime.process import RuntimeProcess, folder_uri
from tests.runtime.test_engine import PROMPTS, WAIT, Recorder, collect, make
from zerotide_runtime.assets import load_assets
from zerotide_runtime.engine.engine import Engine
from zerotide_runtime.engine.foreign import ForeignRunner
from zerotide_runtime.errors import UnsupportedModel

KINDS = [("gpt2", {}), ("gemma2", {"head_dim": 16, "sliding_window": 24}), ("phi3", {"pad_token_id": 0})]


def reference(folder: Path, prompts: list[list[int]], tokens: int) -> list[list[int]]:
    from transformers import AutoModelForCausalLM

    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    answers = []
    for prompt in prompts:
        ids = torch.tensor([prompt])
        out = model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=tokens, do_sample=False, pad_token_id=0
        )
        answers.append(out[0, len(prompt) :].tolist())
    return answers


@pytest.mark.parametrize(("kind", "changes"), KINDS)
@pytest.mark.parametrize("budget", [1 << 16, 100])
def test_answers_are_those_of_transformers(tmp_path: Path, kind: str, changes: dict[str, Any], budget: int) -> None:
    folder = make_tiny(tmp_path / kind, kind, **changes)
    config = load_assets(folder).config
    assert (config.foreign, config.context, config.vocabulary) == (True, 4096, 259)
    prompts = PROMPTS[:3]
    expected = reference(folder, prompts, 30)
    recorder = Recorder()
    runner = ForeignRunner(folder, budget, threads=1)
    engine = Engine(lambda: (runner, None), 8, recorder, time.monotonic)
    together = [make(prompt, 30) for prompt in prompts]
    for sequence, _ in together:
        engine.submit(sequence)
    engine.start()
    assert [collect(events) for _, events in together] == expected
    engine.stop()
    engine.join(WAIT)
    prefills = sum(kind == "prefill" for kind, _ in recorder.steps)
    assert (prefills > len(prompts)) == (budget == 100), "where the cache is small, someone starts over"


def test_it_is_served_like_any_other(tmp_path: Path) -> None:
    folder = make_tiny(tmp_path / "gpt2", "gpt2")
    with RuntimeProcess(folder_uri(folder), name="gpt2") as server:
        server.ready()
        asked = {"inputs": "abc", "parameters": {"max_new_tokens": 5, "details": True}}
        status, body = server.call("POST", "/generate", asked)
    (expected,) = reference(folder, [load_assets(folder).codec.encode("abc", add_special_tokens=False)], 5)
    assert (status, [token["id"] for token in body["details"]["tokens"]]) == (200, expected)


def test_without_transformers_it_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_tiny(tmp_path / "gpt2", "gpt2")
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(UnsupportedModel, match="model_type 'gpt2' is not supported"):
        load_assets(folder)


def test_what_transformers_does_not_know_either_is_refused(tmp_path: Path) -> None:
    folder = make_tiny(tmp_path / "gpt2", "gpt2")
    config = folder / "config.json"
    config.write_text(config.read_text().replace('"gpt2"', '"of-tomorrow"'))
    with pytest.raises(UnsupportedModel, match="model_type 'of-tomorrow' is not supported"):
        load_assets(folder)
