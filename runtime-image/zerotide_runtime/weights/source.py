"""Where `publish` takes a model from: a folder in the Hugging Face layout, or one GGUF file.

Both give the same thing: named tensors as float32 and the small files that describe the model.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from zerotide_runtime.errors import InvalidModel, ModelNotFound, UnsupportedModel
from zerotide_runtime.pooling import module_files
from zerotide_runtime.weights.dequantise import dequantise
from zerotide_runtime.weights.folder import weight_files
from zerotide_runtime.weights.gguf import GGUFFile
from zerotide_runtime.weights.gguf_tokenizer import build_tokenizer
from zerotide_runtime.weights.numeric import to_float32
from zerotide_runtime.weights.order import whole_name
from zerotide_runtime.weights.safetensors_file import read_header

SMALL_FILES = ("tokenizer.json", "tokenizer_config.json", "generation_config.json", "chat_template.jinja")

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class SourceTensor:
    """A tensor that is read when it is asked for."""

    shape: tuple[int, ...]
    load: Callable[[], Floats]


@dataclass(frozen=True)
class Source:
    """A model to publish: its config, its tensors by name, its small files by their paths within it."""

    config: dict[str, Any]
    tensors: dict[str, SourceTensor]
    files: dict[str, str]


def open_source(path: Path) -> Source:
    """Open a GGUF file, a folder with one, or a Hugging Face folder."""
    if path.is_dir():
        ggufs = sorted(path.glob("*.gguf"))
        if (path / "config.json").is_file():
            return from_folder(path)
        if len(ggufs) == 1:
            return from_gguf(ggufs[0])
        raise ModelNotFound(f"{path} has neither a config.json nor exactly one .gguf file")
    if path.is_file():
        return from_gguf(path)
    raise ModelNotFound(f"{path} does not exist")


def from_folder(folder: Path) -> Source:
    """Open a folder with config.json, tokenizer.json and safetensors files."""
    config = json.loads((folder / "config.json").read_text())
    tensors = {}
    for path in weight_files(folder):
        for name, entry in read_header(path).items():
            read = _reader(path, entry.begin, entry.end, entry.dtype, entry.shape)
            tensors[whole_name(name)] = SourceTensor(entry.shape, read)
    small = [*(name for name in SMALL_FILES if (folder / name).is_file()), *module_files(folder)]
    files = {name: (folder / name).read_text() for name in small}
    if "tokenizer.json" not in files:
        raise UnsupportedModel(f"{folder} has no tokenizer.json; save its tokenizer in the fast form first")
    return Source(config, tensors, files)


def _reader(path: Path, begin: int, end: int, dtype: str, shape: tuple[int, ...]) -> Callable[[], Floats]:
    def load() -> Floats:
        with path.open("rb") as file:
            file.seek(begin)
            return to_float32(file.read(end - begin), dtype).reshape(shape)

    return load


def from_gguf(path: Path) -> Source:
    """Open a GGUF file of the llama architecture."""
    file = GGUFFile(path)
    meta = file.metadata
    if meta.get("general.architecture") != "llama":
        raise UnsupportedModel(f"{path} is of architecture {meta.get('general.architecture')}; only llama is converted")
    try:
        config = _config(meta, tied="output.weight" not in file.tensors)
    except KeyError as missing:
        raise InvalidModel(f"{path} lacks the metadata {missing}") from None
    tensors = {}
    for name, info in file.tensors.items():
        target = _rename(name)
        if target is not None:
            heads = {"q_proj": config["num_attention_heads"], "k_proj": config["num_key_value_heads"]}
            permuted = next((count for part, count in heads.items() if part in target), None)
            tensors[target] = SourceTensor(info.shape, _gguf_reader(file, name, permuted))
    return Source(config, tensors, _gguf_files(meta))


def _gguf_reader(file: GGUFFile, name: str, heads: int | None) -> Callable[[], Floats]:
    def load() -> Floats:
        info = file.tensors[name]
        values = dequantise(file.raw(name), info.type.name, info.shape)
        return values if heads is None else unpermute(values, heads)

    return load


def unpermute(weight: Floats, heads: int) -> Floats:
    """Undo the interleaving of rotary pairs that llama GGUF files apply to query and key rows."""
    rows = weight.reshape(heads, weight.shape[0] // heads // 2, 2, *weight.shape[1:])
    return np.ascontiguousarray(rows.swapaxes(1, 2).reshape(weight.shape))


_GLOBAL_NAMES = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}
_LAYER_NAMES = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
# Tables of rotary factors, which the config already says.
_DERIVED = {"rope_freqs.weight"}


def _rename(name: str) -> str | None:
    if name in _GLOBAL_NAMES:
        return _GLOBAL_NAMES[name]
    if name in _DERIVED:
        return None
    parts = name.split(".")
    if len(parts) == 4 and parts[0] == "blk" and parts[2] in _LAYER_NAMES:
        return f"model.layers.{parts[1]}.{_LAYER_NAMES[parts[2]]}.{parts[3]}"
    raise UnsupportedModel(f"the GGUF tensor {name} has no counterpart in a llama model")


def _config(meta: dict[str, Any], tied: bool) -> dict[str, Any]:
    heads = meta["llama.attention.head_count"]
    if any(key.startswith("llama.rope.scaling") for key in meta):
        raise UnsupportedModel("GGUF files with scaled rotary embeddings are not converted")
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_act": "silu",
        "hidden_size": meta["llama.embedding_length"],
        "intermediate_size": meta["llama.feed_forward_length"],
        "num_hidden_layers": meta["llama.block_count"],
        "num_attention_heads": heads,
        "num_key_value_heads": meta.get("llama.attention.head_count_kv", heads),
        "head_dim": meta.get("llama.attention.key_length", meta["llama.embedding_length"] // heads),
        "max_position_embeddings": meta["llama.context_length"],
        # The file holds the float32 nearest to 1e-05; its shortest decimal is what was meant.
        "rms_norm_eps": float(str(np.float32(meta["llama.attention.layer_norm_rms_epsilon"]))),
        "rope_theta": float(meta.get("llama.rope.freq_base", 10000.0)),
        "vocab_size": len(meta["tokenizer.ggml.tokens"]),
        "tie_word_embeddings": tied,
        "attention_bias": False,
        "mlp_bias": False,
        "bos_token_id": meta.get("tokenizer.ggml.bos_token_id"),
        "eos_token_id": meta.get("tokenizer.ggml.eos_token_id"),
    }


def _gguf_files(meta: dict[str, Any]) -> dict[str, str]:
    tokens = meta["tokenizer.ggml.tokens"]
    ids = {role: meta.get(f"tokenizer.ggml.{role}_token_id") for role in ("bos", "eos", "unknown", "padding")}
    names = {"bos": "bos_token", "eos": "eos_token", "unknown": "unk_token", "padding": "pad_token"}
    special = {names[role]: tokens[number] for role, number in ids.items() if number is not None}
    tokenizer_config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": meta["llama.context_length"],
        "clean_up_tokenization_spaces": False,
        **special,
    }
    generation = {"bos_token_id": ids["bos"], "eos_token_id": ids["eos"], "pad_token_id": ids["padding"]}
    files = {
        "tokenizer.json": build_tokenizer(meta).to_str(),
        "tokenizer_config.json": json.dumps(tokenizer_config, indent=2),
        "generation_config.json": json.dumps({k: v for k, v in generation.items() if v is not None}, indent=2),
    }
    if "tokenizer.chat_template" in meta:
        files["chat_template.jinja"] = meta["tokenizer.chat_template"]
    return files
