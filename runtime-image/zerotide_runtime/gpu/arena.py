"""The key-value cache in memory whose address never changes, so that recorded steps stay valid.

Each layer has one array of tokens. A running sequence owns a slot, a stretch of as many tokens as the longest may come
to; a row is a number by which the engine knows a sequence, and moving one only renames its slot.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from zerotide_runtime.engine.config import ModelConfig
from zerotide_runtime.engine.kv import KEPT_SHARE, Alike
from zerotide_runtime.engine.prefixes import Prefixes

STEP = 256


class Arena:
    """Keys and values of all layers, [tokens, kv_heads, head_dim] each, and one token more that belongs to nobody."""

    def __init__(self, config: ModelConfig, tokens: int, most: int, zeros: Callable[[tuple[int, ...]], Tensor]) -> None:
        shape = (tokens + 1, config.kv_heads, config.head_dim)
        self.tokens = tokens
        self._prefixes = Prefixes(tokens // KEPT_SHARE)
        self.keys = [zeros(shape) for _ in range(config.layers)]
        self.values = [zeros(shape) for _ in range(config.layers)]
        self.positions = 0
        self._slots: list[int] = []
        # With as much for each of the `most` sequences, nothing has to be laid out anew while nobody needs more.
        self._share = min(-(-config.context // STEP) * STEP, tokens // most // STEP * STEP)

    @property
    def spare(self) -> int:
        """Return the place of the token that belongs to nobody."""
        return self.tokens

    def start(self, row: int) -> int:
        """Return where a row's tokens begin."""
        return self._slots[row] * self.positions

    def reserve(self, rows: int, positions: int) -> bool:
        """Make room for `rows` sequences of up to `positions` tokens; return False where there is none."""
        stepped = -(-positions // STEP) * STEP
        for candidate in (max(stepped, self.positions, self._share), stepped, positions):
            if rows * candidate <= self.tokens:
                self._resize(rows, candidate)
                return True
        return False

    def _resize(self, rows: int, positions: int) -> None:
        kept = self._slots[:rows]
        if positions != self.positions:
            self._spread(kept, positions)
            kept = list(range(len(kept)))
            self.positions = positions
        # The lowest slots that are free; rows beyond those in use forget theirs.
        taken = set(kept)
        free = (slot for slot in range(rows) if slot not in taken)
        self._slots = kept + [next(free) for _ in range(rows - len(kept))]

    def _spread(self, slots: list[int], positions: int) -> None:
        """Lay the slots out anew, one after the other, `positions` tokens apart."""
        keep = min(positions, self.positions)
        if not slots or not keep:
            return
        device = self.keys[0].device
        within = torch.arange(keep, device=device)
        source = (torch.tensor(slots, device=device)[:, None] * self.positions + within).flatten()
        target = (torch.arange(len(slots), device=device)[:, None] * positions + within).flatten()
        for tensor in (*self.keys, *self.values):
            tensor[target] = tensor[source]  # the right side is a copy, so what overlaps is safe

    def move(self, source: int, target: int, length: int) -> None:
        """Give one row's tokens to another, and the other's place to it."""
        self._slots[source], self._slots[target] = self._slots[target], self._slots[source]

    def keep(self, row: int, tokens: list[int], salt: str) -> None:
        """Keep a copy of a row's `tokens` for prompts that begin alike, if there is room."""
        self._prefixes.keep(tokens, salt, lambda: self._copy(row, len(tokens)))

    def _copy(self, row: int, length: int) -> Tensor:
        part = self._part(row, length)
        return torch.stack([tensor[part] for tensor in (*self.keys, *self.values)])

    def recall(self, row: int, tokens: list[int], salt: str, alike: Alike) -> int:
        """Fill a row with what is there of `tokens`, kept or in a running row; return how many they are."""
        kept, length = self._prefixes.source(tokens, salt, alike.length)
        if length:
            target, source = self._part(row, length), self._part(alike.row, length)
            for place, tensor in enumerate((*self.keys, *self.values)):
                tensor[target] = tensor[source] if kept is None else kept.content[place, :length]
        return length

    def _part(self, row: int, length: int) -> slice:
        start = self.start(row)
        return slice(start, start + length)

    def clear(self) -> None:
        """Forget all rows; the memory stays."""
        self._slots, self.positions = [], 0
