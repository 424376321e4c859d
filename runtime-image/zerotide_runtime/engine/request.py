"""One generation as the engine sees it: its prompt, its parameters, and what it reports."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from zerotide_runtime.engine.constraint import Constraint
from zerotide_runtime.engine.text import Detokeniser, StopStrings

# Below this, dividing by the temperature overflows long before the second token has a chance.
GREEDY_BELOW = 1e-5


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen; the defaults are greedy.

    `temperature` 0 takes the likeliest token. A penalty of 1.0 (repetition) or 0.0 (the others) does nothing.
    Repetition counts prompt and answer, frequency and presence the answer alone. `bias` is added to the
    logits of single tokens; `watermark` favours tokens that whoever knows how can recognise.
    """

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    typical_p: float = 1.0
    repetition_penalty: float = 1.0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    bias: tuple[tuple[int, float], ...] = ()
    watermark: bool = False
    seed: int = 0

    @property
    def greedy(self) -> bool:
        """Tell whether chance plays no part."""
        return self.temperature < GREEDY_BELOW

    @property
    def penalised(self) -> bool:
        """Tell whether earlier tokens change the odds."""
        return self.repetition_penalty != 1.0 or self.frequency_penalty != 0.0 or self.presence_penalty != 0.0


@dataclass(frozen=True)
class Report:
    """What a request wants to be told of the odds, beyond each chosen token's own.

    `top` counts the likeliest tokens to name at each place; `raw` asks for the model's own odds instead of those
    that the token was drawn from; `prompt` asks for the odds of the prompt's tokens too, which are always raw.
    """

    top: int = 0
    raw: bool = False
    prompt: bool = False


class Choice(NamedTuple):
    """A token, its log-probability, and the likeliest tokens at its place with theirs."""

    token: int
    logprob: float
    top: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True)
class Finish:
    """Why a generation ended; more than one can be true of the last token."""

    length: bool = False
    end_token: bool = False
    stop_string: str | None = None


@dataclass(frozen=True)
class TokenEvent:
    """One generated token.

    `text` is what the token added to the decoded text ("" while a character is incomplete, and for special
    tokens); `visible` is what may be shown now: it lags behind while a stop string could still match.
    """

    token: int
    text: str
    visible: str
    logprob: float
    special: bool
    finish: Finish | None = None
    top: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True)
class FailureEvent:
    """The generation broke off."""

    message: str


Event = TokenEvent | FailureEvent


@dataclass(eq=False)
class Sequence:
    """The state of one generation; owned by the engine's thread once submitted, `cancelled` aside.

    `cached` counts the tokens whose keys and values are in the cache, `number` is its place in the
    order of submission, `started` the engine's clock when it first left the queue. `prompt_odds` is complete
    before the first event where the report asks for it: all of the prompt's tokens but the first. `recalled` counts
    the prompt's tokens whose keys and values were there already, None while nobody has looked; only what sequences of
    the same `salt` left is recalled, and nothing where it is None. `adapter` names the one that it is computed with.
    """

    prompt: list[int]
    max_new_tokens: int
    end_tokens: frozenset[int]
    sampling: Sampling
    stops: StopStrings
    text: Detokeniser
    sink: Callable[[Event], None]
    report: Report = Report()
    constraint: Constraint | None = None
    salt: str | None = ""
    adapter: str = ""
    recalled: int | None = None
    prompt_odds: list[Choice] = field(default_factory=list)
    cancelled: bool = False
    number: int = 0
    started: float | None = None
    answer: list[int] = field(default_factory=list)
    cached: int = 0
    rng: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self.rng = random.Random(self.sampling.seed)

    @property
    def length(self) -> int:
        """Count all tokens so far."""
        return len(self.prompt) + len(self.answer)

    @property
    def tokens(self) -> list[int]:
        """Return all tokens so far."""
        return self.prompt + self.answer

    def uncached(self, limit: int) -> list[int]:
        """Return the next tokens that are not in the cache yet, at most `limit`."""
        start = self.cached - len(self.prompt)
        if start >= 0:
            return self.answer[start : start + limit]
        return self.tokens[self.cached : self.cached + limit]

    def decoded(self) -> None:
        """Note that a decoding step has computed its next token, and put it into the cache.

        A prompt's token whose odds are asked for is computed once more, with them.
        """
        if not self.report.prompt or len(self.prompt_odds) >= len(self.prompt) - 1:
            self.cached += 1

    def accept(self, choice: Choice) -> Event:
        """Append a token; return what to tell the client."""
        token = choice.token
        self.answer.append(token)
        ended = token in self.end_tokens
        text = "" if ended else self.text.push(token)
        if self.constraint is not None:
            # What must not go on is over, whether or not the model would have said so with its next token.
            ended = self.constraint.accept(token) or ended
            if self.constraint.error:
                return FailureEvent(self.constraint.error)
        full = len(self.answer) >= self.max_new_tokens
        if ended or full:
            text += self.text.rest()
        visible, matched = self.stops.push(text)
        finish = None
        if ended or full or matched is not None:
            finish = Finish(length=full, end_token=ended, stop_string=matched)
            if matched is None:
                visible += self.stops.flush()
        return TokenEvent(token, text, visible, choice.logprob, self.text.is_special(token), finish, choice.top)
