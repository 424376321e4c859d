"""Tokens of several sequences in one pass, without padding, and how they look at their keys."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

FLASH_WIDTHS = range(8, 257, 8)


@dataclass(frozen=True, slots=True)
class Pack:
    """Tokens of `len(used)` sequences one after the other, each with its position and its place in the arena.

    Sequence i has the tokens `queries[i]`…`queries[i + 1]` and `used[i]` keys from `starts[i]` on, its own included.
    `last` are the tokens whose logits are wanted, None for all. `longest_query` and `longest_key` are upper bounds.
    """

    tokens: Tensor
    positions: Tensor
    places: Tensor
    queries: Tensor
    starts: Tensor
    used: Tensor
    last: Tensor | None
    longest_query: int
    longest_key: int


def pack(tokens: list[list[int]], begun: list[int], starts: list[int], device: torch.device, *, every: bool) -> Pack:
    """Return the pass of some sequences' next tokens, by how many each has cached and where these begin."""
    ends = [before + len(part) for before, part in zip(begun, tokens, strict=True)]
    spans = [range(before, end) for before, end in zip(begun, ends, strict=True)]
    queries = [0, *itertools.accumulate(map(len, tokens))]
    # One copy to the device for each type.
    own, positions, places = torch.tensor(
        [
            list(itertools.chain(*tokens)),
            list(itertools.chain(*spans)),
            [start + position for start, span in zip(starts, spans, strict=True) for position in span],
        ]
    ).to(device)
    narrow = torch.tensor([queries, [*starts, 0], [*ends, 0]], dtype=torch.int32).to(device)
    return Pack(
        own,
        positions,
        places,
        queries=narrow[0],
        starts=narrow[1],
        used=narrow[2, :-1],
        last=None if every else narrow[0, 1:].long() - 1,
        longest_query=max(map(len, tokens)),
        longest_key=max(ends),
    )


Attention = Callable[[Tensor, Tensor, Tensor, Pack], Tensor]


def attention_for(device: torch.device, dtype: torch.dtype, head_dim: int) -> Attention:
    """Return the fastest way there is."""
    half = dtype in (torch.bfloat16, torch.float16)
    return flash if device.type == "cuda" and half and head_dim in FLASH_WIDTHS else plain


def flash(query: Tensor, keys: Tensor, values: Tensor, pack: Pack) -> Tensor:
    """Attend with torch's flash attention: nothing of a step but the data on the device says how long sequences are."""
    mixed: Tensor = torch.ops.aten._flash_attention_forward(
        query,
        keys,
        values,
        pack.queries,
        pack.starts,
        pack.longest_query,
        pack.longest_key,
        0.0,
        True,  # causal, counted from the last key
        False,
        seqused_k=pack.used,
    )[0]
    return mixed


def plain(query: Tensor, keys: Tensor, values: Tensor, pack: Pack) -> Tensor:
    """Attend one sequence after the other, in any type and on any device."""
    heads, kv_heads = query.shape[1], keys.shape[1]
    ends = pack.queries.tolist()
    mixed = torch.empty_like(query)
    for number, (start, used) in enumerate(zip(pack.starts.tolist(), pack.used.tolist(), strict=False)):
        part, where = slice(ends[number], ends[number + 1]), slice(start, start + used)
        seen = torch.arange(used, device=query.device) <= pack.positions[part, None]
        mask = torch.zeros(seen.shape, dtype=query.dtype, device=query.device).masked_fill_(~seen, -math.inf)
        own, its = (a[where].transpose(0, 1).repeat_interleave(heads // kv_heads, 0) for a in (keys, values))
        answer = F.scaled_dot_product_attention(query[part].transpose(0, 1)[None], own[None], its[None], attn_mask=mask)
        mixed[part] = answer[0].transpose(0, 1)
    return mixed
