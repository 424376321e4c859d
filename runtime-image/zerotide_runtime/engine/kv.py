"""The key-value cache: one rectangle of rows by positions per layer, as large as the batch needs.

A running sequence owns one row. The rectangle grows with the batch and its longest sequence, never beyond
the budget, and is given back when nothing runs. Rows in use are always the first ones, so that a step works
on plain slices.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from zerotide_runtime.engine.config import ModelConfig

STEP = 256

Array = Any


class Cache(Protocol):
    """What the engine's thread needs of a cache."""

    def reserve(self, rows: int, positions: int) -> bool:
        """Make room for `rows` sequences of up to `positions` tokens; return False where the budget forbids it."""
        ...

    def move(self, source: int, target: int, length: int) -> None:
        """Copy the first `length` positions of one row over another."""
        ...

    def clear(self) -> None:
        """Give the memory back."""
        ...


class KVCache:
    """Keys and values of all layers; shapes [rows, kv_heads, positions, head_dim].

    `zeros` makes an array of a shape: numpy's or torch's, which are assigned to in the same way.
    """

    def __init__(self, config: ModelConfig, budget_tokens: int, zeros: Callable[[tuple[int, ...]], Array]) -> None:
        self._config = config
        self._zeros = zeros
        self._budget = budget_tokens
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

    def adopt(self, other: KVCache, change: Callable[[Array], Array]) -> None:
        """Take over what another cache holds, its arrays changed into this one's kind."""
        self.rows, self.positions = other.rows, other.positions
        self.keys, self.values = [change(a) for a in other.keys], [change(a) for a in other.values]

    def clear(self) -> None:
        """Give the memory back."""
        self.keys, self.values, self.rows, self.positions = [], [], 0, 0
