"""The key-value cache: one rectangle of rows by positions per layer, as large as the batch needs.

A running sequence owns one row. The rectangle grows with the batch and its longest sequence, never beyond
the budget, and is given back when nothing runs. Rows in use are always the first ones, so that a step works
on plain slices.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from zerotide_runtime.engine.config import ModelConfig
from zerotide_runtime.engine.prefixes import Prefixes

STEP = 256
KEPT_SHARE = 16  # one part in so many of the budget is for what nobody runs any more

Array = Any


class Alike(NamedTuple):
    """A running row that begins with as many tokens of a prompt."""

    row: int
    length: int


class Cache(Protocol):
    """What the engine's thread needs of a cache."""

    def reserve(self, rows: int, positions: int) -> bool:
        """Make room for `rows` sequences of up to `positions` tokens; return False where the budget forbids it."""
        ...

    def move(self, source: int, target: int, length: int) -> None:
        """Copy the first `length` positions of one row over another."""
        ...

    def keep(self, row: int, tokens: list[int], salt: str) -> None:
        """Keep a copy of a row's `tokens` for prompts that begin alike, if there is room."""
        ...

    def recall(self, row: int, tokens: list[int], salt: str, alike: Alike) -> int:
        """Fill a row with what is there of `tokens`, kept or in a running row; return how many they are."""
        ...

    def clear(self) -> None:
        """Give the memory of the running sequences back."""
        ...


class KVCache:
    """Keys and values of all layers; shapes [rows, kv_heads, positions, head_dim].

    `zeros` makes an array of a shape: numpy's or torch's, which are assigned to in the same way.
    """

    def __init__(self, config: ModelConfig, budget_tokens: int, zeros: Callable[[tuple[int, ...]], Array]) -> None:
        self._config = config
        self._zeros = zeros
        self._budget = budget_tokens
        self._prefixes = Prefixes(budget_tokens // KEPT_SHARE)
        self.rows = 0
        self.positions = 0
        self.keys: list[Array] = []
        self.values: list[Array] = []

    def reserve(self, rows: int, positions: int) -> bool:
        """Make room for `rows` sequences of up to `positions` tokens; return False where the budget forbids it."""
        if rows <= self.rows and positions <= self.positions:
            return True
        # Room to spare where the budget has it, the exact need where not.
        stepped = -(-positions // STEP) * STEP
        shapes = [(max(rows, self.rows), max(stepped, self.positions)), (rows, stepped), (rows, positions)]
        for shape in shapes:
            if shape[0] * shape[1] <= self._budget:
                self._prefixes.shrink(self._budget - shape[0] * shape[1])
                try:
                    self._resize(*shape)
                except (MemoryError, RuntimeError):  # torch's own class is of the latter kind
                    if not self._prefixes.tokens:
                        raise
                    self._prefixes.shrink(0)
                    self._resize(*shape)
                return True
        return False

    def _resize(self, rows: int, positions: int) -> None:
        # Layer by layer, so that the old and the new cache never exist both in full.
        shape = (rows, self._config.kv_heads, positions, self._config.head_dim)
        if not self.keys:
            self.keys, self.values = ([None] * self._config.layers for _ in range(2))
        for tensors in (self.keys, self.values):
            for layer, old in enumerate(tensors):
                # Zeros, because what lies beyond a sequence is multiplied by zero and must be finite.
                new = self._zeros(shape)
                if self.rows:
                    r, p = min(rows, self.rows), min(positions, self.positions)
                    new[:r, :, :p] = old[:r, :, :p]
                tensors[layer] = new
        self.rows, self.positions = rows, positions

    def move(self, source: int, target: int, length: int) -> None:
        """Copy the first `length` positions of one row over another."""
        for tensors in (self.keys, self.values):
            for tensor in tensors:
                tensor[target, :, :length] = tensor[source, :, :length]

    def keep(self, row: int, tokens: list[int], salt: str) -> None:
        """Keep a copy of a row's `tokens` for prompts that begin alike, if there is room."""
        room = self._budget - self.rows * self.positions - len(tokens)
        if room >= 0:
            self._prefixes.shrink(room)
            self._prefixes.keep(tokens, salt, lambda: self._copy(row, len(tokens)))

    def _copy(self, row: int, length: int) -> Array:
        copy = self._zeros((2 * self._config.layers, self._config.kv_heads, length, self._config.head_dim))
        for place, tensor in enumerate((*self.keys, *self.values)):
            copy[place] = tensor[row, :, :length]
        return copy

    def recall(self, row: int, tokens: list[int], salt: str, alike: Alike) -> int:
        """Fill a row with what is there of `tokens`, kept or in a running row; return how many they are."""
        kept, length = self._prefixes.source(tokens, salt, alike.length)
        if kept is not None:
            for place, tensor in enumerate((*self.keys, *self.values)):
                tensor[row, :, :length] = kept.content[place, :, :length]
        elif length:
            self.move(alike.row, row, length)
        return length

    def adopt(self, other: KVCache, change: Callable[[Array], Array]) -> None:
        """Take over what another cache holds, its arrays changed into this one's kind."""
        self._prefixes.adopt(other._prefixes, change)
        self.rows, self.positions = other.rows, other.positions
        self.keys, self.values = [change(a) for a in other.keys], [change(a) for a in other.values]

    def clear(self) -> None:
        """Give the memory of the running sequences back."""
        self.keys, self.values, self.rows, self.positions = [], [], 0, 0
