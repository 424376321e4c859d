"""What the engine needs to know of a model, read from its config.json."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from zerotide_runtime.errors import InvalidModel, UnsupportedModel

# Model types that are the llama architecture under another name or with a bias more.
MODEL_TYPES = ("llama", "mistral", "qwen2")


@dataclass(frozen=True)
class RopeScaling:
    """Llama 3's stretching of slow rotary frequencies."""

    factor: float
    low_frequency_factor: float
    high_frequency_factor: float
    original_context: int


@dataclass(frozen=True)
class ModelConfig:
    """Shapes and constants of one model."""

    hidden: int
    intermediate: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int
    context: int
    norm_epsilon: float
    rope_theta: float
    rope_scaling: RopeScaling | None
    tied: bool
    qkv_bias: bool
    dtype: str

    def kv_bytes_per_token(self, item_size: int) -> int:
        """Return what one cached position takes over all layers."""
        return 2 * self.layers * self.kv_heads * self.head_dim * item_size


def parse_config(raw: dict[str, Any]) -> ModelConfig:
    """Read a Hugging Face config; raise UnsupportedModel for what this engine would compute wrongly."""
    kind = raw.get("model_type")
    if kind not in MODEL_TYPES:
        raise UnsupportedModel(f"model_type {kind!r} is not supported; this engine runs {', '.join(MODEL_TYPES)}")
    for key, harmless in (("hidden_act", "silu"), ("mlp_bias", False), ("quantization_config", None)):
        if raw.get(key, harmless) != harmless:
            raise UnsupportedModel(f"config.json has {key}={raw[key]!r}, which this engine does not know")
    if kind == "llama" and raw.get("attention_bias"):
        raise UnsupportedModel("config.json has attention_bias=true, which this engine does not know")
    try:
        heads, context = int(raw["num_attention_heads"]), int(raw["max_position_embeddings"])
        return ModelConfig(
            hidden=int(raw["hidden_size"]),
            intermediate=int(raw["intermediate_size"]),
            layers=int(raw["num_hidden_layers"]),
            heads=heads,
            kv_heads=int(raw.get("num_key_value_heads") or heads),
            head_dim=int(raw.get("head_dim") or raw["hidden_size"] // heads),
            vocabulary=int(raw["vocab_size"]),
            context=min(context, _sliding_window(raw) or context),
            norm_epsilon=float(raw["rms_norm_eps"]),
            rope_theta=float(_rope(raw).get("rope_theta", raw.get("rope_theta", 10000.0))),
            rope_scaling=_rope_scaling(_rope(raw)),
            tied=bool(raw.get("tie_word_embeddings", False)),
            qkv_bias=kind == "qwen2",
            dtype=str(raw.get("dtype") or raw.get("torch_dtype") or "float32"),
        )
    except KeyError as missing:
        raise InvalidModel(f"config.json lacks {missing}") from None


def _sliding_window(raw: dict[str, Any]) -> int | None:
    """Return the attention window where one applies: within it, full attention is the same thing."""
    window = raw.get("sliding_window")
    return int(window) if window and raw.get("use_sliding_window", raw.get("model_type") == "mistral") else None


def _rope(raw: dict[str, Any]) -> dict[str, Any]:
    """Return the rotary parameters, which newer configs keep in `rope_parameters`."""
    return raw.get("rope_parameters") or raw.get("rope_scaling") or {}


def _rope_scaling(rope: dict[str, Any]) -> RopeScaling | None:
    kind = rope.get("rope_type") or rope.get("type") or "default"
    if kind == "default":
        return None
    if kind != "llama3":
        raise UnsupportedModel(f"rotary embeddings of type {kind!r} are not supported; known: default, llama3")
    return RopeScaling(
        factor=float(rope["factor"]),
        low_frequency_factor=float(rope["low_freq_factor"]),
        high_frequency_factor=float(rope["high_freq_factor"]),
        original_context=int(rope["original_max_position_embeddings"]),
    )
