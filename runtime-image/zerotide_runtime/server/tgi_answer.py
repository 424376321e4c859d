"""An answer in TGI's form, whole or as a stream."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

from zerotide_runtime.engine.request import Finish, Sequence, TokenEvent
from zerotide_runtime.errors import RequestError
from zerotide_runtime.server import sse
from zerotide_runtime.server.accounting import Account, Timings
from zerotide_runtime.server.fields import Object
from zerotide_runtime.server.generation import Generation
from zerotide_runtime.server.message import Response, StreamBroken, json_response
from zerotide_runtime.server.service import PING_SECONDS, Loaded
from zerotide_runtime.server.tgi_errors import error_content
from zerotide_runtime.server.tgi_params import Parameters

Finished = tuple[list[TokenEvent], Sequence]


def finish_reason(finish: Finish) -> str:
    """Return TGI's word for why an answer ended: the length is checked first, then the end token."""
    if finish.length:
        return "length"
    return "eos_token" if finish.end_token else "stop_sequence"


class Answer:
    """One request's answer in TGI's form, whole or as a stream."""

    def __init__(
        self, parameters: Parameters, model: Loaded, prompt_tokens: int, generation: Generation, account: Account
    ) -> None:
        self._parameters = parameters
        self._codec = model.assets.codec
        self._prompt_tokens = prompt_tokens
        self._generation = generation
        self._account = account

    async def begun(self) -> None:
        """Wait for the first token, or the first silence; raise GenerationFailed where there will be none."""
        await self._generation.begun(PING_SECONDS)

    async def whole(self, headers: dict[str, str], *, as_list: bool) -> Response:
        """Wait for the answer and return it in one piece, with these headers and those that tell its times."""
        ranked, timings = await self._ranked()
        events, _ = ranked[0]
        content: Object = {"generated_text": self._text(events)}
        if self._parameters.details:
            content["details"] = self._details(*ranked[0])
            if len(ranked) > 1:
                content["details"]["best_of_sequences"] = [
                    {"generated_text": self._text(others), **self._details(others, sequence)}
                    for others, sequence in ranked[1:]
                ]
        headers = {**headers, **self._time_headers(timings, len(events))}
        return json_response(200, [content] if as_list else content, headers)

    async def text(self) -> str:
        """Wait for the answer and return its text alone."""
        ranked, _ = await self._ranked()
        return self._text(ranked[0][0])

    async def _ranked(self) -> tuple[list[Finished], Timings]:
        """Return all answers, the best first, and the times that they took."""
        answers = await self._generation.collect()
        timings = self._account.finished(self._generation.sequences)
        return sorted(zip(answers, self._generation.sequences, strict=True), key=_unlikelihood), timings

    async def stream(self) -> AsyncIterator[bytes]:
        """Yield one event a token; an error that comes now is the last of them."""
        events: list[TokenEvent] = []
        try:
            async for item in self._generation.events(PING_SECONDS):
                if item is None:
                    yield sse.PING
                    continue
                events.append(item[1])
                yield sse.event(self._chunk(events, self._generation.sequences[0]), space=False)
        except RequestError as error:
            self._account.failed(error)
            yield sse.event(error_content(error), space=False)
            raise StreamBroken from error
        self._account.finished(self._generation.sequences)

    def _chunk(self, events: list[TokenEvent], sequence: Sequence) -> Object:
        last = events[-1]
        text = details = None
        if last.finish is not None:
            text = self._text(events)
            if self._parameters.details:
                details = {**self._summary(events, sequence), "input_length": self._prompt_tokens}
        tops = {"top_tokens": self._alternatives(last)} if last.top else {}
        return {
            "index": len(events),
            "token": self._token(last),
            **tops,
            "generated_text": text,
            "details": details,
        }

    def _text(self, events: list[TokenEvent]) -> str:
        prompt = self._parameters.inputs if self._parameters.return_full_text else ""
        return prompt + "".join(event.visible for event in events)

    def _details(self, events: list[TokenEvent], sequence: Sequence) -> Object:
        tops = [self._alternatives(event) for event in events] if self._parameters.report.top else []
        return {
            **self._summary(events, sequence),
            "prefill": list(self._prefill(sequence)),
            "tokens": [self._token(event) for event in events],
            **({"top_tokens": tops} if tops else {}),
        }

    def _summary(self, events: list[TokenEvent], sequence: Sequence) -> Object:
        finish = events[-1].finish
        assert finish is not None
        return {
            "finish_reason": finish_reason(finish),
            "generated_tokens": len(events),
            "seed": None if self._parameters.seed is None else sequence.sampling.seed,
        }

    def _prefill(self, sequence: Sequence) -> Iterator[Object]:
        """Return the prompt's tokens where they were asked for; nothing comes before the first, so it has no odds."""
        if self._parameters.report.prompt:
            odds = [None, *(choice.logprob for choice in sequence.prompt_odds)]
            for token, logprob in zip(sequence.prompt, odds, strict=True):
                yield {"id": token, "text": self._codec.piece(token), "logprob": logprob}

    def _token(self, event: TokenEvent) -> Object:
        text = self._codec.name(event.token) if event.special else event.text
        return {"id": event.token, "text": text, "logprob": event.logprob, "special": event.special}

    def _alternatives(self, event: TokenEvent) -> list[Object]:
        return [
            {
                "id": token,
                "text": self._codec.piece(token),
                "logprob": logprob,
                "special": self._codec.is_special(token),
            }
            for token, logprob in event.top
        ]

    def _time_headers(self, timings: Timings, tokens: int) -> dict[str, str]:
        milliseconds = {
            "x-total-time": timings.total,
            "x-validation-time": timings.validation,
            "x-queue-time": timings.queue,
            "x-inference-time": timings.inference,
            "x-time-per-token": timings.per_token,
        }
        return {
            "x-compute-time": str(timings.total),
            **{name: str(round(seconds * 1000)) for name, seconds in milliseconds.items()},
            "x-prompt-tokens": str(self._prompt_tokens),
            "x-generated-tokens": str(tokens),
        }


def _unlikelihood(answer: Finished) -> float:
    """Return how unlikely an answer's tokens were, on the mean: the least is the best."""
    events, _ = answer
    return -sum(event.logprob for event in events) / len(events)
