"""A request's answer in OpenAI's form, whole or as a stream."""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from zerotide_runtime import __version__
from zerotide_runtime.engine.request import Sequence, TokenEvent
from zerotide_runtime.errors import RequestError
from zerotide_runtime.server import sse
from zerotide_runtime.server.accounting import Account
from zerotide_runtime.server.fields import Object
from zerotide_runtime.server.generation import Generation
from zerotide_runtime.server.message import Response, StreamBroken, json_response
from zerotide_runtime.server.openai_choice import ChoiceForm
from zerotide_runtime.server.openai_errors import error_content
from zerotide_runtime.server.openai_params import Options
from zerotide_runtime.server.service import PING_SECONDS

FINGERPRINT = f"zerotide-{__version__}"


@dataclass(frozen=True)
class Names:
    """What the two routes call their answers."""

    id_prefix: str
    object: str
    chunk_object: str


CHAT = Names("chatcmpl-", "chat.completion", "chat.completion.chunk")
PLAIN = Names("cmpl-", "text_completion", "text_completion")


class Answer:
    """One or more choices that grow side by side."""

    def __init__(
        self,
        names: Names,
        options: Options,
        generation: Generation,
        account: Account,
        make: Callable[[Sequence], ChoiceForm],
    ) -> None:
        self.options = options
        self._names = names
        self._generation = generation
        self._account = account
        self._choices = [make(sequence) for sequence in generation.sequences]
        self._id = names.id_prefix + secrets.token_hex(12)
        self._created = int(time.time())

    async def begun(self) -> None:
        """Wait for the first token, or the first silence; raise GenerationFailed where there will be none."""
        await self._generation.begun(PING_SECONDS)

    async def text(self) -> str:
        """Wait for the first choice and return its text alone."""
        answers = await self._generation.collect()
        self._account.finished(self._generation.sequences)
        return "".join(event.visible for event in answers[0])

    async def whole(self) -> Response:
        """Wait for all choices and return them in one piece."""
        answers = await self._generation.collect()
        self._account.finished(self._generation.sequences)
        places = best(answers, self.options.count, self.options.best_of)
        choices = [{"index": index, **self._choices[place].whole(answers[place])} for index, place in enumerate(places)]
        return json_response(200, {**self._envelope(self._names.object, choices), "usage": self._usage()})

    async def stream(self) -> AsyncIterator[bytes]:
        """Yield the answer's events; an error that comes now is the last of them."""
        try:
            async for item in self._generation.events(PING_SECONDS):
                if item is None:
                    yield sse.PING
                    continue
                index, event = item
                pieces = self._choices[index].pieces(event)
                yield b"".join(self._chunk([{"index": index, **piece}]) for piece in pieces)
        except RequestError as error:
            self._account.failed(error)
            yield sse.event(error_content(error))
            raise StreamBroken from error
        self._account.finished(self._generation.sequences)
        if self.options.include_usage:
            yield sse.event({**self._envelope(self._names.chunk_object, []), "usage": self._usage()})
        yield sse.DONE

    def _chunk(self, choices: list[Object]) -> bytes:
        content = self._envelope(self._names.chunk_object, choices)
        if self.options.include_usage:
            content["usage"] = None
        return sse.event(content)

    def _envelope(self, kind: str, choices: list[Object]) -> Object:
        return {
            "id": self._id,
            "object": kind,
            "created": self._created,
            "model": self.options.model,
            "system_fingerprint": FINGERPRINT,
            "choices": choices,
        }

    def _usage(self) -> Object:
        sequences = self._generation.sequences
        # A prompt is read once, however many answers it gets.
        every = self.options.best_of
        prompt = sum(len(sequence.prompt) for sequence in sequences[::every])
        groups = (sequences[first : first + every] for first in range(0, len(sequences), every))
        cached = sum(min(sequence.recalled or 0 for sequence in group) for group in groups)
        completion = 0 if self.options.max_tokens == 0 else sum(len(sequence.answer) for sequence in sequences)
        return {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": prompt + completion,
            "prompt_tokens_details": {"cached_tokens": cached},
        }


def best(answers: list[list[TokenEvent]], count: int, best_of: int) -> list[int]:
    """Return the places of the answers to give: of each prompt's `best_of` the `count` likeliest, best first."""
    if count == best_of:
        return list(range(len(answers)))

    def unlikelihood(place: int) -> float:
        return -sum(event.logprob for event in answers[place]) / len(answers[place])

    groups = (range(first, first + best_of) for first in range(0, len(answers), best_of))
    return [place for group in groups for place in sorted(group, key=unlikelihood)[:count]]
