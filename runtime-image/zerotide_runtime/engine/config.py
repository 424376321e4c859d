"""What the engine needs to know of a model, read from its config.json."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from zerotide_runtime.errors import InvalidModel, UnsupportedModel

# Model types that are the llama architecture under another name or with a bias more.
MODEL_TYPES = ("llama", "mistral", "qwen2", "qwen3", "gemma")
# What the gate of a block may be, by the names that configs use; gemma's "gelu" has always meant the approximation.
SILU, GELU = "silu", "gelu_pytorch_tanh"
# What else changes the arithmetic, and the values with which it does not.
HARMLESS = (
    *(("use_bidirectional_attention", None), ("is_causal", True)),
    *(("mlp_bias", False), ("quantization_config", None)),
)
# Where it does not follow from the other sizes, and a config may leave it out.
HEAD_DIMS = {"qwen3": 128, "gemma": 256}


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
    head_norms: bool = False  # queries and keys are normalised, each head by itself
    activation: str = SILU
    embedding_scale: float = 1.0
    norm_offset: float = 0.0  # what norms' weights lack
    foreign: bool = False  # computed by transformers; of the sizes only those of the cache are true

    def kv_bytes_per_token(self, item_size: int) -> int:
        """Return what one cached position takes over all layers."""
        return 2 * self.layers * self.kv_heads * self.head_dim * item_size


def parse_config(raw: dict[str, Any]) -> ModelConfig:
    """Read a Hugging Face config; raise UnsupportedModel for what this engine would compute wrongly."""
    kind = raw.get("model_type")
    if kind not in MODEL_TYPES:
        raise UnsupportedModel(f"model_type {kind!r} is not supported; this engine runs {', '.join(MODEL_TYPES)}")
    gemma = kind == "gemma"
    activation = GELU if gemma else SILU
    if raw.get("hidden_act", activation) not in ((GELU, "gelu") if gemma else (SILU,)):
        raise UnsupportedModel(f"config.json has hidden_act={raw['hidden_act']!r}, which this engine does not know")
    for key, harmless in HARMLESS:
        if raw.get(key, harmless) != harmless:
            raise UnsupportedModel(f"config.json has {key}={raw[key]!r}, which this engine does not know")
    if kind != "qwen2" and raw.get("attention_bias"):
        raise UnsupportedModel("config.json has attention_bias=true, which this engine does not know")
    try:
        heads, context = int(raw["num_attention_heads"]), int(raw["max_position_embeddings"])
        return ModelConfig(
            hidden=int(raw["hidden_size"]),
            intermediate=int(raw["intermediate_size"]),
            layers=int(raw["num_hidden_layers"]),
            heads=heads,
            kv_heads=int(raw.get("num_key_value_heads") or heads),
            head_dim=int(raw.get("head_dim") or HEAD_DIMS.get(kind) or raw["hidden_size"] // heads),
            vocabulary=int(raw["vocab_size"]),
            context=min(context, _sliding_window(raw) or context),
            norm_epsilon=float(raw["rms_norm_eps"]),
            rope_theta=float(_rope(raw).get("rope_theta", raw.get("rope_theta", 10000.0))),
            rope_scaling=_rope_scaling(_rope(raw)),
            tied=bool(raw.get("tie_word_embeddings", gemma)),
            qkv_bias=kind == "qwen2",
            dtype=str(raw.get("dtype") or raw.get("torch_dtype") or "float32"),
            head_norms=kind == "qwen3",
            activation=activation,
            embedding_scale=int(raw["hidden_size"]) ** 0.5 if gemma else 1.0,
            norm_offset=1.0 if gemma else 0.0,
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
