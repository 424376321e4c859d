"""Write a model of a llama's shape with random weights, as `publish` would lay it out."""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from zerotide_runtime.weights.order import execution_order
from zerotide_runtime.weights.safetensors_file import write

EIGHT_BILLION = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_act": "silu",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "max_position_embeddings": 8192,
    "rms_norm_eps": 1e-5,
    "rope_theta": 500000.0,
    "vocab_size": 128256,
    "tie_word_embeddings": False,
    "attention_bias": False,
    "mlp_bias": False,
    "dtype": "bfloat16",
}
SMALL = {**EIGHT_BILLION, "hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 2, "vocab_size": 2048}
SMALL = {**SMALL, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 64}


def shapes(config: dict[str, int]) -> dict[str, tuple[int, ...]]:
    """Return all tensors' shapes by name, in execution order."""
    hidden, middle, vocabulary = config["hidden_size"], config["intermediate_size"], config["vocab_size"]
    queries = config["num_attention_heads"] * config["head_dim"]
    keys = config["num_key_value_heads"] * config["head_dim"]
    found: dict[str, tuple[int, ...]] = {
        "model.embed_tokens.weight": (vocabulary, hidden),
        "model.norm.weight": (hidden,),
        "lm_head.weight": (vocabulary, hidden),
    }
    for layer in range(config["num_hidden_layers"]):
        for name, shape in (
            ("input_layernorm", (hidden,)),
            ("self_attn.q_proj", (queries, hidden)),
            ("self_attn.k_proj", (keys, hidden)),
            ("self_attn.v_proj", (keys, hidden)),
            ("self_attn.o_proj", (hidden, queries)),
            ("post_attention_layernorm", (hidden,)),
            ("mlp.gate_proj", (middle, hidden)),
            ("mlp.up_proj", (middle, hidden)),
            ("mlp.down_proj", (hidden, middle)),
        ):
            found[f"model.layers.{layer}.{name}.weight"] = shape
    return {name: found[name] for name in execution_order(found)}


def tokenizer(size: int) -> Tokenizer:
    """Return a tokenizer with a token for each byte, and made-up words up to the size."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = ("".join(letters) for letters in itertools.product("abcdefghijklmnopqrstuvwxyz", repeat=4))
    texts = itertools.chain(alphabet, itertools.islice(words, size - len(alphabet)))
    vocabulary = {text: number for number, text in enumerate(texts)}
    made = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    made.decoder = decoders.ByteLevel()
    return made


def main(folder: Path, config: dict[str, int]) -> None:
    """Write the model, unless it is there."""
    if (folder / "config.json").is_file():
        return
    folder.mkdir(parents=True, exist_ok=True)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    named = shapes(config)

    def contents() -> Iterator[bytes]:
        for shape in named.values():
            values = torch.ones(shape) if len(shape) == 1 else torch.randn(shape, device=device).mul_(shape[-1] ** -0.5)
            yield values.to(torch.bfloat16).view(torch.uint8).flatten().cpu().numpy().data  # type: ignore[misc]

    write(folder / "model.safetensors", [(name, "BF16", shape) for name, shape in named.items()], contents())
    tokenizer(config["vocab_size"]).save(str(folder / "tokenizer.json"))
    (folder / "config.json").write_text(json.dumps(config))


if __name__ == "__main__":
    main(Path(sys.argv[1]), SMALL if "small" in sys.argv else EIGHT_BILLION)  # type: ignore[arg-type]
