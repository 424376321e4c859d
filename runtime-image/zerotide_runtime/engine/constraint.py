"""What a grammar is to the engine: a set of allowed tokens that changes with each token."""

from __future__ import annotations

from typing import Protocol


class Constraint(Protocol):
    """Decides which tokens may come next; it never raises, because other sequences share the step."""

    error: str
    """Why the constraint broke down, empty while it holds."""

    def allowed(self) -> bytes | None:
        """Return one bit a token, the lowest bit of a byte first, at least one of them set; None allows all."""
        ...

    def accept(self, token: int) -> bool:
        """Take note of the next token; return whether the text is complete and nothing may follow."""
        ...
