"""TGI's routes: /generate, /generate_stream and POST /, which the text-generation client uses."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from zerotide_runtime.engine.request import Finish, TokenEvent
from zerotide_runtime.errors import (
    GenerationFailed,
    InvalidRequest,
    NotReady,
    Overloaded,
    RequestError,
    TemplateError,
)
from zerotide_runtime.server import sse
from zerotide_runtime.server.accounting import Account, Timings
from zerotide_runtime.server.fields import Object, boolean, parse_object
from zerotide_runtime.server.generation import Generation
from zerotide_runtime.server.message import Request, Response, StreamBroken, StreamResponse, json_response
from zerotide_runtime.server.service import PING_SECONDS, Loaded, Service, Task, random_seed
from zerotide_runtime.server.tgi_params import Parameters, fit, read_parameters

# Status, prefix of the message, error_type; the first class that fits counts.
KINDS: tuple[tuple[type[RequestError], int, str, str], ...] = (
    (TemplateError, 422, "Template error: ", "template_error"),
    (InvalidRequest, 422, "Input validation error: ", "validation"),
    (Overloaded, 429, "", "overloaded"),
    (NotReady, 503, "", "healthcheck"),
    (GenerationFailed, 424, "Request failed during generation: ", "generation"),
)


def error_content(error: RequestError) -> Object:
    """Return TGI's JSON body for an error."""
    prefix, kind = next((prefix, name) for known, _, prefix, name in KINDS if isinstance(error, known))
    return {"error": f"{prefix}{error}", "error_type": kind}


def error_response(error: RequestError) -> Response:
    """Return TGI's answer for an error."""
    status = next(status for known, status, _, _ in KINDS if isinstance(error, known))
    headers = {"retry-after": "1"} if status in (429, 503) else {}
    return json_response(status, error_content(error), headers)


def finish_reason(finish: Finish) -> str:
    """Return TGI's word for why an answer ended: the length is checked first, then the end token."""
    if finish.length:
        return "length"
    return "eos_token" if finish.end_token else "stop_sequence"


class TGI:
    """The handlers of TGI's routes."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def generate(self, request: Request) -> Response | StreamResponse:
        """Answer POST /generate with an object."""
        return await self._answer(request, stream=False)

    async def generate_stream(self, request: Request) -> Response | StreamResponse:
        """Answer POST /generate_stream with events."""
        return await self._answer(request, stream=True)

    async def root(self, request: Request) -> Response | StreamResponse:
        """Answer POST / as the body's `stream` says; the whole answer is a list of one object."""
        return await self._answer(request, stream=None)

    async def _answer(self, request: Request, stream: bool | None) -> Response | StreamResponse:
        """Generate; `stream` None is the compatibility route, which decides by the body."""
        account = Account(self._service.telemetry)
        compatible = stream is None
        try:
            source = parse_object(request.body)
            parameters = read_parameters(
                source,
                stream=boolean(source, "stream") if stream is None else stream,
                # The Hub's pipelines return the prompt too, and this route stands in for them.
                full_text=compatible,
                random_seed=random_seed,
            )
            self._service.admit(request)
            model = await self._service.model()
            tokens = model.assets.codec.encode(parameters.inputs, add_special_tokens=True)
            tokens, length = fit(tokens, parameters, model.max_total_tokens)
            account.validated([tokens], length)
            task = Task(tokens, length, parameters.sampling, parameters.stops, keep_stop=True)
            generation = self._service.generate(request, model, [task])
            answer = Answer(parameters, model, len(tokens), generation, account)
            if not parameters.stream:
                return await answer.whole(self._size_headers(parameters), as_list=compatible)
            await generation.begun(PING_SECONDS)
            return StreamResponse(answer.stream(), headers={**sse.HEADERS, **self._size_headers(parameters)})
        except RequestError as error:
            account.failed(error)
            return error_response(error)

    def _size_headers(self, parameters: Parameters) -> dict[str, str]:
        """Return the headers that are known before the answer is."""
        return {"x-compute-type": self._service.compute_type, "x-compute-characters": str(len(parameters.inputs))}


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

    async def whole(self, headers: dict[str, str], *, as_list: bool) -> Response:
        """Wait for the answer and return it in one piece, with these headers and those that tell its times."""
        (events,) = await self._generation.collect()
        timings = self._account.finished(self._generation.sequences)
        content: Object = {"generated_text": self._text(events)}
        if self._parameters.details:
            content["details"] = {
                **self._summary(events),
                # The prompt's log-probabilities are only computed by servers that are told so at their start.
                "prefill": [],
                "tokens": [self._token(event) for event in events],
            }
        headers = {**headers, **self._time_headers(timings, len(events))}
        return json_response(200, [content] if as_list else content, headers)

    async def stream(self) -> AsyncIterator[bytes]:
        """Yield one event a token; an error that comes now is the last of them."""
        events: list[TokenEvent] = []
        try:
            async for item in self._generation.events(PING_SECONDS):
                if item is None:
                    yield sse.PING
                    continue
                events.append(item[1])
                yield sse.event(self._chunk(events), space=False)
        except RequestError as error:
            self._account.failed(error)
            yield sse.event(error_content(error), space=False)
            raise StreamBroken from error
        self._account.finished(self._generation.sequences)

    def _chunk(self, events: list[TokenEvent]) -> Object:
        last = events[-1]
        text = details = None
        if last.finish is not None:
            text = self._text(events)
            if self._parameters.details:
                details = {**self._summary(events), "input_length": self._prompt_tokens}
        return {"index": len(events), "token": self._token(last), "generated_text": text, "details": details}

    def _text(self, events: list[TokenEvent]) -> str:
        prompt = self._parameters.inputs if self._parameters.return_full_text else ""
        return prompt + "".join(event.visible for event in events)

    def _summary(self, events: list[TokenEvent]) -> Object:
        finish = events[-1].finish
        assert finish is not None
        return {
            "finish_reason": finish_reason(finish),
            "generated_tokens": len(events),
            "seed": self._parameters.seed,
        }

    def _token(self, event: TokenEvent) -> dict[str, Any]:
        text = self._codec.name(event.token) if event.special else event.text
        return {"id": event.token, "text": text, "logprob": event.logprob, "special": event.special}

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
