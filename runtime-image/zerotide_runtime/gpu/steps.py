"""Decoding steps of fixed sizes on the GPU: run as they come at first, then recorded once and replayed.

A step's launches take longer than its arithmetic where a model is small or fast memory feeds it. Recording takes a few
hundredths of a second, so a size is recorded when it has come up several times, never before the first token.
"""

from __future__ import annotations

from collections import Counter

import torch
from torch.nn import functional as F

from zerotide_runtime.gpu.arena import Arena
from zerotide_runtime.gpu.model import PackedLlama
from zerotide_runtime.gpu.pack import Pack, flash

RECORD_AFTER = 4
# How many keys a step may look at: with fewer, less of the work on one sequence is shared out and put together again.
KEYS = (512, 2048, 8192, 32768)
ENOUGH = 128  # key heads of all sequences, from which on each is one worker's


def sizes(most: int) -> list[int]:
    """Return the sizes of a step for up to `most` sequences: few enough to record, close enough to waste little."""
    steps = [1, 2, 4, *range(8, 64, 8), *range(64, 256, 16), *range(256, most + 32, 32)]
    return [size for size in steps if size < most] + [most]


class Steps:
    """One token of every sequence, `[rows]` at a time; the results stay until the next step."""

    def __init__(self, model: PackedLlama, arena: Arena, most: int, *, record: bool = True) -> None:
        device = model.weights.embedding.device
        self._model = model
        self._arena = arena
        self._sizes = sizes(most)
        self._records = record and model.attention is flash
        self._longest = min(model.config.context, arena.tokens)
        self._graphs: dict[tuple[int, int], torch.cuda.CUDAGraph] = {}
        self._runs: Counter[tuple[int, int]] = Counter()
        self._inputs = {size: torch.zeros((3, size), dtype=torch.int64, device=device) for size in self._sizes}
        self.logits = torch.zeros((most, model.config.vocabulary), device=device)
        # The likeliest token of each row, and its log-probability.
        self.picks = torch.zeros((2, most), dtype=torch.float64, device=device)

    @torch.inference_mode()
    def launch(self, tokens: list[int], positions: list[int], starts: list[int]) -> None:
        """Start a step; on a GPU this returns long before it is done."""
        size = next(size for size in self._sizes if size >= len(tokens))
        idle = size - len(tokens)
        rows = [tokens + [0] * idle, positions + [0] * idle, starts + [self._arena.spare] * idle]
        self._inputs[size].copy_(torch.tensor(rows), non_blocking=True)
        shape = size, self._keys(size, max(positions) + 1)
        graph = self._graphs.get(shape)
        if graph is not None:
            graph.replay()
            return
        self._step(*shape)
        self._runs[shape] += 1
        if self._records and self._runs[shape] == RECORD_AFTER:
            self._record(*shape)

    def _keys(self, size: int, needed: int) -> int:
        if size * self._model.config.kv_heads >= ENOUGH:
            return self._longest
        return min(self._longest, next((keys for keys in KEYS if keys >= needed), self._longest))

    def _step(self, size: int, keys: int) -> None:
        tokens, positions, starts = self._inputs[size]
        pack = Pack(
            tokens,
            positions,
            places=starts + positions,
            queries=torch.arange(size + 1, dtype=torch.int32, device=tokens.device),
            starts=F.pad(starts, (0, 1)).to(torch.int32),
            used=(positions + 1).to(torch.int32),
            last=None,
            longest_query=1,
            longest_key=keys,
        )
        logits = self.logits[:size]
        logits.copy_(self._model.run(pack, self._arena))
        odds = torch.log_softmax(logits, dim=-1)
        best = odds.max(dim=-1)
        self.picks[0, :size] = best.indices
        self.picks[1, :size] = best.values

    def _record(self, size: int, keys: int) -> None:
        graph = torch.cuda.CUDAGraph()
        pool = next(iter(self._graphs.values())).pool() if self._graphs else None
        # Other threads may use the device meanwhile.
        with torch.cuda.graph(graph, pool=pool, capture_error_mode="thread_local"):
            self._step(size, keys)
        self._graphs[size, keys] = graph

    @property
    def recorded(self) -> list[tuple[int, int]]:
        """Return the steps that are replayed: how many rows, and up to how many keys."""
        return sorted(self._graphs)
