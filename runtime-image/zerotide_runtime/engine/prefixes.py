"""Beginnings of earlier sequences whose keys and values are kept: conversations go on, and instructions come again.

What is kept is a copy of its own, so that the running sequences' cache stays one rectangle. It is bounded in tokens;
what has not been of use for the longest goes first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

FEWEST = 16  # tokens that are worth a copy


def shared(one: Sequence[int], other: Sequence[int]) -> int:
    """Count the tokens with which both begin."""
    same, different = 0, min(len(one), len(other)) + 1
    while different - same > 1:
        middle = (same + different) // 2
        # Slices are compared in C: a long beginning costs microseconds.
        if one[same:middle] == other[same:middle]:
            same = middle
        else:
            different = middle
    return same


@dataclass(frozen=True, eq=False)
class Kept:
    """A sequence's tokens, whom it may serve, and its keys and values in whatever form the cache has them."""

    tokens: list[int]
    salt: str
    content: Any


class Found(NamedTuple):
    """What shares most with a prompt, and how many tokens of it."""

    kept: Kept | None
    length: int


class Prefixes:
    """Kept sequences, the least recently used first; `most` bounds the tokens of all together."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.tokens = 0
        self._kept: list[Kept] = []

    def find(self, tokens: Sequence[int], salt: str) -> Found:
        """Return what begins like `tokens` for the longest; it is the last to go from now on."""
        best = Found(None, 0)
        for kept in self._kept:
            if kept.salt == salt and (length := shared(kept.tokens, tokens)) > best.length:
                best = Found(kept, length)
        if best.kept is not None:
            self._kept.remove(best.kept)
            self._kept.append(best.kept)
        return best

    def source(self, tokens: Sequence[int], salt: str, running: int) -> Found:
        """Return what to copy, told how many tokens a running row has: that row where nothing is kept that has more.

        Nothing at all, 0 tokens, where no copy is worth it.
        """
        found = self.find(tokens, salt)
        best = found if found.length > running else Found(None, running)
        return best if best.length >= FEWEST else Found(None, 0)

    def keep(self, tokens: list[int], salt: str, copy: Callable[[], Any]) -> None:
        """Keep a sequence with what `copy` returns, in place of what it goes on from.

        Nothing that is too long is kept, and nothing at all where there is no memory for it.
        """
        if not FEWEST <= len(tokens) <= self.most:
            return
        found = self.find(tokens, salt)
        if found.kept is not None:
            if found.length == len(tokens):
                return
            if found.length == len(found.kept.tokens):
                self._forget(found.kept)
        self.shrink(self.most - len(tokens))
        try:
            content = copy()
        except (MemoryError, RuntimeError):  # torch's own class is of the latter kind
            self.shrink(0)
            return
        self._kept.append(Kept(tokens, salt, content))
        self.tokens += len(tokens)

    def shrink(self, most: int) -> None:
        """Forget until no more than `most` tokens are kept."""
        while self._kept and self.tokens > most:
            self._forget(self._kept[0])

    def _forget(self, kept: Kept) -> None:
        self._kept.remove(kept)
        self.tokens -= len(kept.tokens)

    def adopt(self, other: Prefixes, change: Callable[[Any], Any]) -> None:
        """Take over what another has, its contents changed into this one's kind."""
        self._kept = [Kept(kept.tokens, kept.salt, change(kept.content)) for kept in other._kept]
        self.tokens = other.tokens
        self.shrink(self.most)
