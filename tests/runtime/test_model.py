"""The forward pass, against transformers on tiny random models of every supported family."""

from __future__ import annotations

import json
import platform
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.runtime.models import make_tiny
from zerotide_runtime.engine.config import ModelConfig, parse_config
from zerotide_runtime.engine.kv import KVCache
from zerotide_runtime.engine.layers import build_weights
from zerotide_runtime.engine.linear import Linear, blocks_are_known
from zerotide_runtime.engine.model import Llama, Step
from zerotide_runtime.engine.tensors import TensorReader
from zerotide_runtime.errors import InvalidModel, UnsupportedModel
from zerotide_runtime.weights.mapped import MappedWeights
from zerotide_runtime.weights.publish import publish

CPU = torch.device("cpu")
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}


def load(folder: Path) -> tuple[ModelConfig, Llama]:
    config = parse_config(json.loads((folder / "config.json").read_text()))
    reader = TensorReader(MappedWeights(folder), torch.float32, CPU)
    return config, Llama(config, build_weights(config, reader))


def reference_logits(folder: Path, tokens: torch.Tensor) -> torch.Tensor:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with torch.inference_mode():
        logits: torch.Tensor = model(tokens).logits
        return logits


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("llama", {}),
        ("llama", {"tie_word_embeddings": True, "num_key_value_heads": 4}),
        ("llama", {"rope_parameters": LLAMA3, "head_dim": 16}),
        ("mistral", {"sliding_window": None}),
        ("qwen2", {}),
        ("qwen3", {"head_dim": 16}),
        ("gemma", {"head_dim": 16, "tie_word_embeddings": True}),
    ],
)
@pytest.mark.parametrize("layout", ["as it came", "published"])
def test_logits_equal_the_reference(tmp_path: Path, kind: str, changes: dict[str, Any], layout: str) -> None:
    folder = make_tiny(tmp_path / "model", kind, **changes)
    tokens = torch.randint(0, 256, (1, 150))
    expected = reference_logits(folder, tokens)
    if layout == "published":
        publish(folder, tmp_path / "published")
        folder = tmp_path / "published"
    config, model = load(folder)
    cache = KVCache(config, 1024, torch.zeros)
    assert cache.reserve(1, 150)
    # A prompt in two parts, then token by token: every way in which the engine fills its cache.
    for start, end in [(0, 90), (90, 147), (147, 148), (148, 149), (149, 150)]:
        step = Step(0, torch.arange(start, end)[None], end)
        logits = model.forward(tokens[:, start:end], step, cache)
        torch.testing.assert_close(logits[0], expected[0, end - 1], atol=2e-3, rtol=1e-3)


def test_rows_of_a_batch_do_not_see_each_other(tiny: Path) -> None:
    config, model = load(tiny)
    lengths = [7, 31, 12]
    prompts = [torch.randint(0, 256, (1, length)) for length in lengths]
    expected = [reference_logits(tiny, prompt)[0, -1] for prompt in prompts]
    cache = KVCache(config, 1024, torch.zeros)
    assert cache.reserve(3, 40)
    for row, prompt in enumerate(prompts):
        step = Step(row, torch.arange(lengths[row] - 1)[None], lengths[row] - 1)
        model.forward(prompt[:, :-1], step, cache)
    last = torch.cat([prompt[:, -1:] for prompt in prompts])
    logits = model.forward(last, Step(0, torch.tensor(lengths)[:, None] - 1, max(lengths)), cache)
    for row in range(3):
        torch.testing.assert_close(logits[row], expected[row], atol=2e-3, rtol=1e-3)


def test_published_weights_are_mapped_without_a_copy(tiny: Path, tmp_path: Path) -> None:
    publish(tiny, tmp_path / "out")
    weights = MappedWeights(tmp_path / "out")
    config = parse_config(json.loads((tmp_path / "out" / "config.json").read_text()))
    built = build_weights(config, TensorReader(weights, torch.float32, CPU))
    start = torch.frombuffer(weights.tensors["model.norm.weight"].buffer, dtype=torch.uint8).data_ptr()
    for layer in built.layers:
        for tensor in (layer.qkv, layer.gate_up, layer.down):
            assert start <= tensor.data_ptr() < start + weights.nbytes


def test_half_precision_files_run_in_float32_on_cpus(tiny: Path, tmp_path: Path) -> None:
    publish(tiny, tmp_path / "half", "bfloat16")
    _, model = load(tmp_path / "half")
    assert model.weights.layers[0].qkv.dtype == torch.float32


def test_missing_and_misshapen_tensors_are_named(tiny: Path) -> None:
    reader = TensorReader(MappedWeights(tiny), torch.float32, CPU)
    with pytest.raises(InvalidModel, match=r"the weights lack model\.nothing"):
        reader.get("model.nothing", (1,))
    with pytest.raises(InvalidModel, match=r"is \[48\] where config\.json implies \[47\]"):
        reader.get("model.norm.weight", (47,))


BASE = {
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "max_position_embeddings": 512,
    "vocab_size": 100,
    "rms_norm_eps": 1e-5,
}


def test_defaults_of_a_config() -> None:
    config = parse_config(BASE)
    assert (config.kv_heads, config.head_dim, config.rope_theta, config.tied) == (4, 16, 10000.0, False)
    assert config.kv_bytes_per_token(4) == 2 * 1 * 4 * 16 * 4


def test_a_sliding_window_bounds_the_context() -> None:
    assert parse_config({**BASE, "model_type": "mistral", "sliding_window": 128}).context == 128
    assert (
        parse_config({**BASE, "model_type": "qwen2", "sliding_window": 128, "use_sliding_window": False}).context == 512
    )


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"model_type": "gpt2"}, "model_type 'gpt2' is not supported"),
        ({"hidden_act": "gelu"}, "hidden_act"),
        ({"mlp_bias": True}, "mlp_bias"),
        ({"attention_bias": True}, "attention_bias"),
        ({"quantization_config": {"bits": 4}}, "quantization_config"),
        ({"rope_scaling": {"rope_type": "yarn"}}, "type 'yarn'"),
    ],
)
def test_what_would_be_computed_wrongly_is_refused(change: dict[str, Any], said: str) -> None:
    with pytest.raises(UnsupportedModel, match=said):
        parse_config({**BASE, **change})


def test_a_missing_field_is_named() -> None:
    with pytest.raises(InvalidModel, match="hidden_size"):
        parse_config({key: value for key, value in BASE.items() if key != "hidden_size"})


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("outputs", [64, 70])
def test_products_are_the_same_in_the_layout_for_batches(bias: bool, outputs: int) -> None:
    weight, offset = torch.randn(outputs, 48), torch.randn(outputs) if bias else None
    linear = Linear(weight, offset)
    assert blocks_are_known(weight) == (platform.machine() == "x86_64")
    linear.lay_out()
    for shape in [(1, 48), (3, 1, 48), (4, 1, 48), (33, 48), (2, 5, 48)]:
        values = torch.randn(shape)
        with torch.inference_mode():
            torch.testing.assert_close(linear(values), torch.nn.functional.linear(values, weight, offset))
    assert not blocks_are_known(weight.bfloat16())
