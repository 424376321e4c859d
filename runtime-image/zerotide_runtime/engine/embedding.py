"""An input to embed, as the engine sees it: a prompt whose hidden states are wanted, and no next token.

It takes its turn among the prompts of others, in parts within a step's budget, and leaves with its last part.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from zerotide_runtime.engine.request import Choice, Event, Finish, Sequence, TokenEvent
from zerotide_runtime.pooling import CLS, MEAN, Pooling

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    # Not imported here: the port opens without numpy.
    Floats = npt.NDArray[np.float32]

NOTHING = Choice(token=-1, logprob=0.0)
SHORTEST = 1e-12  # that is divided by


@dataclass(eq=False, kw_only=True)
class Embedding(Sequence):
    """One input; `vector` is complete before its only event.

    Nothing of it is recalled from others with the same beginning, whose hidden states nobody has kept.
    """

    pooling: Pooling
    salt: str | None = None
    vector: Floats = field(init=False, repr=False)

    @property
    def length(self) -> int:
        """Count the prompt's tokens and one that never comes, so that none of them is taken for an answer's."""
        return len(self.prompt) + 1

    def take(self, states: Floats) -> Choice | None:
        """Add the normalised hidden states of the next tokens, [tokens, width]; return a choice after the last."""
        start = self.cached
        self.cached += len(states)
        if start == 0:
            self._pooled = states[0].astype("float64")
            if self.pooling.mode == MEAN:
                self._pooled[:] = 0.0
        if self.pooling.mode == MEAN:
            self._pooled += states.sum(axis=0, dtype="float64")
        if self.cached < len(self.prompt):
            return None
        if self.pooling.mode == MEAN:
            self._pooled /= len(self.prompt)
        elif self.pooling.mode != CLS:
            self._pooled = states[-1].astype("float64")
        self.vector = self._pooled.astype("float32")
        return NOTHING

    def decoded(self) -> None:
        """Note nothing: the token's hidden state is for `take`, so it is computed once more."""

    def accept(self, choice: Choice) -> Event:
        """Return that this is all."""
        return TokenEvent(choice.token, "", "", choice.logprob, special=True, finish=Finish(length=True))


def finished(vector: Floats, size: int, *, normalise: bool) -> Floats:
    """Return a vector's first `size` numbers, scaled to a length of one where the model does so."""
    cut = vector[:size].astype("float64")
    if normalise:
        cut /= max(float((cut * cut).sum()) ** 0.5, SHORTEST)
    return cut.astype("float32")
