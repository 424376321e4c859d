"""LoRA adapters: what PEFT saves computes what PEFT computes, side by side in one batch, called by name."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import openai
import pytest
import torch

from tests.runtime.adapters import ATTENTION, EVERYTHING, make_adapter, reference_answer, reference_logits
from tests.runtime.models import make_tiny
from tests.runtime.process import RuntimeProcess, folder_uri
from tests.runtime.test_engine import PROMPTS, Recorder, Started, collect, make
from tests.runtime.test_sleep import TOKEN, order
from zerotide_runtime.assets import load_assets
from zerotide_runtime.engine.adapter import Adapter, build_adapter
from zerotide_runtime.engine.adapter_file import read_adapter
from zerotide_runtime.engine.arrays import Floats
from zerotide_runtime.engine.engine import Engine
from zerotide_runtime.engine.quick import QuickRunner, Span
from zerotide_runtime.engine.runner import Runner
from zerotide_runtime.errors import InvalidModel, ModelNotFound, SettingsError, StartError, UnsupportedModel
from zerotide_runtime.server.admin import read_order
from zerotide_runtime.settings import read_settings
from zerotide_runtime.weights.mapped import MappedWeights

LENGTH = 40
ASKED = {"inputs": "tell me", "parameters": {"max_new_tokens": LENGTH}}


def adapter_of(model: Path, folder: Path) -> Adapter[Floats]:
    return build_adapter(read_adapter(folder), load_assets(model).config)


def quick_logits(model: Path, adapter: Adapter[Floats], tokens: torch.Tensor) -> Floats:
    runner = QuickRunner(load_assets(model).config, MappedWeights(model), 1 << 12)
    assert runner.cache.reserve(2, tokens.shape[1])
    # The other row has no adapter, and comes first.
    spans = [Span(1, 0, 3), Span(0, 0, tokens.shape[1], adapter)]
    logits: Floats = runner._forward([1, 2, 3, *tokens[0].tolist()], spans)[1]
    return logits


def torch_logits(model: Path, adapter: Adapter[Floats], tokens: torch.Tensor) -> Floats:
    weights = MappedWeights(model)
    runner = Runner.load(load_assets(model).config, weights, 1 << 12, 1, adapters={"a": adapter})
    assert runner.cache.reserve(1, tokens.shape[1] + 1)
    sequence, _ = make(tokens[0, :-1].tolist(), 4)
    sequence.adapter = "a"
    assert runner.prefill_one(0, sequence, 100) is not None
    sequence.answer.append(int(tokens[0, -1]))
    logits: list[torch.Tensor] = []
    forward = runner.model.forward

    def keep(*given: Any, **options: Any) -> torch.Tensor:
        logits.append(forward(*given, **options))
        return logits[-1].clone()

    runner.model.forward = keep  # type: ignore[method-assign]
    runner.decode([sequence])
    last: Floats = logits[0][0].numpy()
    return last


@pytest.mark.parametrize("way", [quick_logits, torch_logits])
@pytest.mark.parametrize(
    ("kind", "shape", "changes"),
    [
        ("llama", {}, {}),
        ("llama", {}, {"modules": ATTENTION[::2]}),
        ("llama", {}, {"modules": ("up_proj", "k_proj"), "use_rslora": True}),
        (
            "llama",
            {},
            {"rank_pattern": {"down_proj": 7}, "alpha_pattern": {"layers.1.self_attn.q_proj": 3, "o_proj": 1}},
        ),
        ("llama", {}, {"layers_to_transform": [1]}),
        ("qwen2", {}, {}),
        ("qwen3", {"head_dim": 16}, {}),
        ("gemma", {"head_dim": 16, "tie_word_embeddings": True}, {"modules": EVERYTHING[::-1]}),
    ],
)
def test_logits_are_those_of_peft(
    way: Any, kind: str, shape: dict[str, Any], changes: dict[str, Any], tmp_path: Path
) -> None:
    model = make_tiny(tmp_path / "model", kind, **shape)
    folder = make_adapter(model, tmp_path / "adapter", **changes)
    tokens = torch.randint(0, 256, (1, 30))
    expected = reference_logits(model, folder, tokens)[-1].numpy()
    np.testing.assert_allclose(way(model, adapter_of(model, folder), tokens), expected, atol=2e-3, rtol=1e-3)
    assert np.abs(expected - reference_logits(model, None, tokens)[-1].numpy()).max() > 0.1, "it changes something"


@pytest.fixture(scope="module")
def adapters(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return two adapters of the tiny model, by name."""
    folder = tmp_path_factory.mktemp("adapters")
    return {
        "polite": make_adapter(tiny, folder / "polite", seed=2),
        "brief": make_adapter(tiny, folder / "brief", seed=3, modules=ATTENTION, r=2),
    }


class Adapting(Started):
    """An engine with two adapters, with torch or without."""

    def __init__(self, model: Path, adapters: dict[str, Path], *, quick: bool) -> None:
        self.recorder = Recorder()
        config, weights = load_assets(model).config, MappedWeights(model)
        read = {name: adapter_of(model, folder) for name, folder in adapters.items()}
        runner: Any = (
            QuickRunner(config, weights, 1 << 16, read)
            if quick
            else Runner.load(config, weights, 1 << 16, 1, adapters=read)
        )
        self.engine = Engine(lambda: (runner, None), 8, self.recorder, time.monotonic)


@pytest.mark.parametrize("quick", [True, False])
def test_in_one_batch_each_has_its_own(tiny: Path, adapters: dict[str, Path], quick: bool) -> None:
    names = ["", "polite", "brief", "polite", ""]
    prompts = [PROMPTS[0], PROMPTS[0], PROMPTS[0], PROMPTS[1], PROMPTS[1]]
    expected = [
        reference_answer(tiny, adapters.get(name), prompt, LENGTH) for name, prompt in zip(names, prompts, strict=True)
    ]
    assert len({tuple(answer) for answer in expected[:3]}) == 3, "the adapters change the answer"
    with Adapting(tiny, adapters, quick=quick) as adapting:
        made = []
        with adapting.engine._changed:  # or the first of them may be done before the second one comes
            for name, prompt in zip(names, prompts, strict=True):
                sequence, events = make(prompt, LENGTH)
                sequence.adapter, sequence.salt = name, f"{name}:"
                adapting.engine.submit(sequence)
                made.append(events)
        assert [collect(events) for events in made] == expected
        assert ("decode", len(names)) in adapting.recorder.steps


@pytest.fixture(scope="module")
def adapted(tiny: Path, adapters: dict[str, Path]) -> Iterator[RuntimeProcess]:
    """Return a server of the tiny model with both adapters."""
    named = " ".join(f"{name}={folder_uri(folder)}" for name, folder in adapters.items())
    with RuntimeProcess(folder_uri(tiny), "--adapters", named, "--admin-token", TOKEN, name="tiny") as process:
        yield process.ready()


@pytest.fixture
def client(adapted: RuntimeProcess) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{adapted.url}/v1", api_key="-", max_retries=0) as made:
        yield made


def test_they_are_called_and_listed_by_name(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["tiny", "tiny:polite", "tiny:brief"]
    card = client.models.retrieve("tiny:brief")
    assert (card.id, card.model_dump()["parent"]) == ("tiny:brief", "tiny")
    answers = {
        model: client.completions.create(model=model, prompt="tell me", max_tokens=LENGTH, temperature=0)
        for model in ("tiny", "tiny:polite", "somewhere/tiny:polite", "tiny:brief")
    }
    texts = {model: answer.choices[0].text for model, answer in answers.items()}
    assert texts["tiny:polite"] == texts["somewhere/tiny:polite"]
    assert len(set(texts.values())) == 3
    assert answers["tiny:polite"].model == "tiny:polite"


def test_an_unknown_adapter_is_an_unknown_model(client: openai.OpenAI, tiny_server: RuntimeProcess) -> None:
    for model in ("tiny:rude", "other:polite", "tiny:", "tiny:polite:brief"):
        with pytest.raises(openai.NotFoundError) as caught:
            client.completions.create(model=model, prompt="a", max_tokens=1)
        assert (caught.value.code, caught.value.param) == ("model_not_found", "model")
        with pytest.raises(openai.NotFoundError):
            client.models.retrieve(model)
    chat = {"model": "tiny:polite", "messages": [{"role": "user", "content": "a"}]}
    assert tiny_server.call("POST", "/v1/chat/completions", chat)[0] == 404, "a server without adapters"


def test_tgi_calls_them_by_id_and_nothing_is_shared(adapted: RuntimeProcess) -> None:
    texts = []
    for given in ({}, {"adapter_id": "polite"}, {"adapter_id": "brief"}, {}, {"adapter_id": "polite"}):
        asked = {**ASKED, "parameters": {**ASKED["parameters"], **given}}  # type: ignore[dict-item]
        status, answer = adapted.call("POST", "/generate", asked)
        assert status == 200
        texts.append(answer["generated_text"])
    # Of the last two the prompt is there already, as their own kind computed it.
    assert texts[3:] == texts[:2]
    assert len(set(texts)) == 3
    status, answer = adapted.call("POST", "/generate", {**ASKED, "parameters": {"adapter_id": "rude"}})
    assert (status, answer["error_type"]) == (422, "validation")
    assert "`adapter_id` must be one of polite, brief. Given: 'rude'" in answer["error"]


def test_they_come_back_from_sleep_and_with_an_adoption(
    adapted: RuntimeProcess, tiny: Path, adapters: dict[str, Path]
) -> None:
    asked = {"model": "tiny:polite", "prompt": "tell me", "max_tokens": LENGTH, "temperature": 0}
    _, first = adapted.call("POST", "/v1/completions", asked)
    assert order(adapted, "/sleep?level=2") == (200, {"level": 2})
    assert order(adapted, "/wake_up") == (200, {"level": 0})
    _, second = adapted.call("POST", "/v1/completions", asked)
    assert second["choices"] == first["choices"]
    with RuntimeProcess("", "--standby", "--admin-token", TOKEN, name="") as standby:
        standby.listening()
        named = [{"name": name, "uri": folder_uri(folder)} for name, folder in adapters.items()]
        wish = {"model": folder_uri(tiny), "name": "tiny", "adapters": named}
        assert order(standby, "/admin/load", wish) == (200, {"status": "ok"})
        _, third = standby.call("POST", "/v1/completions", asked)
        assert third["choices"] == first["choices"]


def test_a_start_with_a_bad_adapter_says_which(tiny: Path, tmp_path: Path) -> None:
    with RuntimeProcess(folder_uri(tiny), "--adapters", f"polite={folder_uri(tmp_path)}", name="tiny") as process:
        assert process.finish() == 1
        assert f"ModelNotFound: {tmp_path} has no adapter_" in process.log


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        ({"peft_type": "IA3"}, UnsupportedModel, "peft_type"),
        ({"use_dora": True}, UnsupportedModel, "use_dora"),
        ({"bias": "all"}, UnsupportedModel, "bias"),
        ({"modules_to_save": ["lm_head"]}, UnsupportedModel, "modules_to_save"),
        ({"init_lora_weights": "pissa_niter_4"}, UnsupportedModel, "plain LoRA"),
        ({"lora_alpha": None}, InvalidModel, "lora_alpha"),
        ({"alpha_pattern": {"(": 3}}, InvalidModel, "lora_alpha"),
    ],
)
def test_what_would_be_computed_wrongly_is_refused(
    change: dict[str, Any], kind: type[StartError], message: str, adapters: dict[str, Path], tmp_path: Path
) -> None:
    folder = tmp_path / "adapter"
    folder.mkdir()
    weights = (adapters["polite"] / "adapter_model.safetensors").read_bytes()
    (folder / "adapter_model.safetensors").write_bytes(weights)
    config = json.loads((adapters["polite"] / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps({**config, **change}))
    with pytest.raises(kind, match=message):
        read_adapter(folder)


def test_files_that_are_no_adapter_are_refused(adapters: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match="adapter_config"):
        read_adapter(tmp_path)
    (tmp_path / "adapter_config.json").write_text("{")
    with pytest.raises(InvalidModel, match="not JSON"):
        read_adapter(tmp_path)
    (tmp_path / "adapter_config.json").write_bytes((adapters["polite"] / "adapter_config.json").read_bytes())
    with pytest.raises(ModelNotFound, match="adapter_model"):
        read_adapter(tmp_path)


def test_an_adapter_of_another_model_is_refused(adapters: dict[str, Path], tmp_path: Path) -> None:
    wider = load_assets(make_tiny(tmp_path / "wider", intermediate_size=128)).config
    with pytest.raises(InvalidModel, match="of another model"):
        build_adapter(read_adapter(adapters["polite"]), wider)
    shallow = load_assets(make_tiny(tmp_path / "shallow", num_hidden_layers=1)).config
    with pytest.raises(InvalidModel, match="layer 1, but the model has 1"):
        build_adapter(read_adapter(adapters["polite"]), shallow)


def test_beyond_the_projections_nothing_is_taken(tiny: Path, tmp_path: Path) -> None:
    folder = make_adapter(tiny, tmp_path / "a", modules=("q_proj", "lm_head"))
    with pytest.raises(UnsupportedModel, match="lm_head"):
        read_adapter(folder)


def test_names_and_locations_are_read_strictly() -> None:
    settings = read_settings(["--model-uri", "/m", "--adapters", "a=hf://o/n@r  b.2=/x=y,z"], {})
    assert settings.adapters == (("a", "hf://o/n@r"), ("b.2", "/x=y,z"))
    for wrong in ("a", "=b", "a=", "a:b=/c", "a=/b a=/c"):
        with pytest.raises(SettingsError, match="adapter"):
            read_settings(["--model-uri", "/m"], {"ZEROTIDE_ADAPTERS": wrong})
    with pytest.raises(SettingsError, match="at most 32"):
        read_settings(["--model-uri", "/m", "--adapters", " ".join(f"a{n}=/b" for n in range(33))], {})
    with pytest.raises(SettingsError, match="`adapters` must be"):
        read_order(b'{"model": "a", "adapters": [{"name": "b"}]}')
    assert read_order(b'{"model": "a", "adapters": [{"name": "b", "uri": "/c"}]}').adapters == (("b", "/c"),)
