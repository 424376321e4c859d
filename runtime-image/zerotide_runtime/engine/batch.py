"""Who runs and who waits: the bookkeeping of continuous batching, without any arithmetic.

A running sequence's place in `running` is its row of the cache. When one leaves, the last takes its row, so
the rows in use stay the first ones.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from zerotide_runtime.engine.kv import Alike
from zerotide_runtime.engine.prefixes import FEWEST, shared
from zerotide_runtime.engine.request import Sequence


@dataclass(frozen=True)
class Move:
    """A row of the cache to copy over another: the first `length` positions."""

    source: int
    target: int
    length: int


@dataclass(frozen=True)
class Part:
    """What to compute next of a prompt: up to `limit` tokens of the sequence in a row."""

    row: int
    sequence: Sequence
    limit: int


@dataclass
class Batch:
    """The sequences in hand; `max_rows` bounds how many run at once."""

    max_rows: int
    waiting: deque[Sequence] = field(default_factory=deque)
    running: list[Sequence] = field(default_factory=list)

    def admit(self, room: Callable[[int, int], bool]) -> list[Sequence]:
        """Start waiting sequences in order, as long as `room(rows, positions)` can be had; return them."""
        admitted = []
        while self.waiting and len(self.running) < self.max_rows:
            sequence = self.waiting[0]
            if not room(len(self.running) + 1, max(self.positions, sequence.length)):
                break
            self.running.append(self.waiting.popleft())
            admitted.append(sequence)
        return admitted

    @property
    def positions(self) -> int:
        """Count the positions that the longest running sequence takes up."""
        return max((sequence.length for sequence in self.running), default=0)

    def prompts(self, budget: int, most: int) -> list[Part]:
        """Return up to `most` sequences that lack more than their newest token, with `budget` tokens between them."""
        parts: list[Part] = []
        for row, sequence in enumerate(self.running):
            missing = sequence.length - sequence.cached
            if missing > 1 and budget > 0 and len(parts) < most:
                parts.append(Part(row, sequence, min(missing, budget)))
                budget -= missing
        return parts

    def alike(self, sequence: Sequence, wanted: list[int]) -> Alike:
        """Return the running row, of the same salt, whose cache begins for the longest like the `wanted` tokens."""
        best, first = Alike(0, 0), wanted[:FEWEST]
        for row, other in enumerate(self.running):
            if other is sequence or other.salt != sequence.salt or other.cached <= best.length:
                continue
            # Most differ at once, and a prompt of thousands is not copied to see that.
            if other.prompt[:FEWEST] == first[: len(other.prompt)]:
                length = shared(other.tokens[: other.cached], wanted)
                best = max(best, Alike(row, length), key=lambda each: each.length)
        return best

    def remove(self, sequence: Sequence) -> Move | None:
        """Take a running sequence out; return the row to move into the gap, if there is one."""
        row, last = self.running.index(sequence), len(self.running) - 1
        mover = self.running[last]
        self.running[row] = mover
        self.running.pop()
        return None if row == last else Move(last, row, mover.cached)

    def preempt(self) -> Move | None:
        """Send the youngest running sequence back to the head of the queue, to start over with what it has."""
        sequence = max(self.running, key=lambda candidate: candidate.number)
        move = self.remove(sequence)
        sequence.cached = 0
        self.waiting.appendleft(sequence)
        return move
