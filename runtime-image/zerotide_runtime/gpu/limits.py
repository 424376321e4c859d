"""How much of a GPU's memory the key-value cache may take: what is free once everything else has its share."""

from __future__ import annotations

from zerotide_runtime.engine.kv import KEPT_SHARE
from zerotide_runtime.engine.limits import FEWEST_TOKENS
from zerotide_runtime.errors import OutOfMemory

# Libraries' workspaces, kernels, recorded steps, and what a packed prompt is while it is computed.
WORKING = 3 << 29
ODDS = 28  # bytes for each token of the vocabulary and each row: logits, odds, and what drawing from them takes


def gpu_cache_tokens(
    free: int, weights: int, per_token: int, layers: int, vocabulary: int, rows: int, wanted: int | None = None
) -> int:
    """Return how many tokens the cache may hold; sizes in bytes, `rows` sequences at once, `wanted` the user's setting.

    Raise OutOfMemory where nothing useful is left.
    """
    others = weights + WORKING + ODDS * vocabulary * rows
    room = min(wanted or free, max(0, free - others))
    # Laying the cache out anew takes one layer's keys once more, and kept beginnings have a share of their own.
    tokens = room * 2 * layers // (per_token * (2 * layers + 1)) * KEPT_SHARE // (KEPT_SHARE + 1)
    if tokens < FEWEST_TOKENS:
        need = (others + 2 * FEWEST_TOKENS * per_token) >> 20
        raise OutOfMemory(
            f"{free >> 20} MiB of the GPU's memory are free and leave no room for the key-value cache; "
            f"this model needs at least {need} MiB: take a larger GPU, share it with fewer, or lower --max-batch"
        )
    return tokens
