"""The order in which a forward pass touches the weights, which is the order they are stored in.

Query, key and value lie side by side, as do gate and up: the engine maps each group as one matrix without
copying, while the file stays an ordinary one that other programs read by the usual names.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

QKV_WEIGHTS = tuple(f"self_attn.{part}_proj.weight" for part in "qkv")
QKV_BIASES = tuple(f"self_attn.{part}_proj.bias" for part in "qkv")
HEAD_NORMS = tuple(f"self_attn.{part}_norm.weight" for part in "qk")
GATE_UP = ("mlp.gate_proj.weight", "mlp.up_proj.weight")

EMBEDDING, FINAL_NORM, HEAD = "model.embed_tokens.weight", "model.norm.weight", "lm_head.weight"
LAYER = re.compile(r"^model\.layers\.(\d+)\.(.+)$")
WITHIN_LAYER = (
    "input_layernorm.weight",
    *QKV_WEIGHTS,
    *QKV_BIASES,
    *HEAD_NORMS,
    "self_attn.o_proj.weight",
    "post_attention_layernorm.weight",
    *GATE_UP,
    "mlp.down_proj.weight",
)

BARE = re.compile(r"^(embed_tokens|layers|norm)\.")


def whole_name(name: str) -> str:
    """Return a tensor's name in a model with a head: models that embed are often saved without that part."""
    return f"model.{name}" if BARE.match(name) else name


def execution_order(names: Iterable[str]) -> list[str]:
    """Sort tensor names by first use; names this engine does not know come last."""
    return sorted(names, key=_rank)


def _rank(name: str) -> tuple[int, int, int, str]:
    layer = LAYER.match(name)
    if layer is not None:
        part = layer[2]
        place = WITHIN_LAYER.index(part) if part in WITHIN_LAYER else len(WITHIN_LAYER)
        return (1, int(layer[1]), place, name)
    stage = {EMBEDDING: 0, FINAL_NORM: 2, HEAD: 3}.get(name, 4)
    return (stage, 0, 0, name)
