"""OpenAI's routes: chat completions, plain completions and the list of models."""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, replace

from zerotide_runtime import __version__
from zerotide_runtime.engine.request import Finish, TokenEvent
from zerotide_runtime.errors import InvalidRequest, RequestError
from zerotide_runtime.server import sse
from zerotide_runtime.server.accounting import Account
from zerotide_runtime.server.fields import Object, parse_object
from zerotide_runtime.server.generation import Generation
from zerotide_runtime.server.message import Request, Response, StreamBroken, StreamResponse, json_response
from zerotide_runtime.server.openai_errors import ModelUnknown, error_content, error_response
from zerotide_runtime.server.openai_messages import read_messages, render
from zerotide_runtime.server.openai_params import Options, answer_length, read_options
from zerotide_runtime.server.openai_prompts import read_prompts
from zerotide_runtime.server.service import PING_SECONDS, Loaded, Service, Task, random_seed

FINGERPRINT = f"zerotide-{__version__}"


@dataclass(frozen=True)
class Form:
    """How chat and plain completions name things."""

    id_prefix: str
    object: str
    chunk_object: str
    whole: Callable[[str], Object]
    piece: Callable[[str], Object]
    opening: Object | None
    closing: Object


CHAT = Form(
    id_prefix="chatcmpl-",
    object="chat.completion",
    chunk_object="chat.completion.chunk",
    whole=lambda text: {"message": {"role": "assistant", "content": text}},
    piece=lambda text: {"delta": {"content": text}},
    opening={"delta": {"role": "assistant", "content": ""}},
    closing={"delta": {}},
)
PLAIN = Form(
    id_prefix="cmpl-",
    object="text_completion",
    chunk_object="text_completion",
    whole=lambda text: {"text": text},
    piece=lambda text: {"text": text},
    opening=None,
    closing={"text": ""},
)


def finish_reason(finish: Finish) -> str:
    """Return OpenAI's word for why an answer ended."""
    return "stop" if finish.end_token or finish.stop_string is not None else "length"


Prompts = Callable[[Object, Loaded], list[list[int]]]


class OpenAI:
    """The handlers of OpenAI's routes."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def chat(self, request: Request) -> Response | StreamResponse:
        """Answer POST /v1/chat/completions."""

        return await self._complete(request, CHAT, chat_prompts)

    async def completions(self, request: Request) -> Response | StreamResponse:
        """Answer POST /v1/completions."""
        return await self._complete(request, PLAIN, plain_prompts)

    async def text(self, request: Request, source: Object, account: Account) -> str:
        """Return the text that answers a conversation; raise a RequestError where there is none."""
        answer = await self._begin(request, {**source, "stream": False}, CHAT, chat_prompts, account)
        return await answer.text()

    async def models(self, request: Request) -> Response:
        """Answer GET /v1/models."""
        return json_response(200, {"object": "list", "data": [self._card(self._service.settings.model_name)]})

    async def model(self, request: Request) -> Response:
        """Answer GET /v1/models/{id}."""
        name = request.path.removeprefix("/v1/models/")
        if not self._service.names(name):
            return error_response(ModelUnknown(name))
        return json_response(200, self._card(name))

    def _card(self, name: str) -> Object:
        return {"id": name, "object": "model", "created": self._service.created, "owned_by": "zerotide"}

    async def _complete(self, request: Request, form: Form, prompts: Prompts) -> Response | StreamResponse:
        account = Account(self._service.telemetry)
        try:
            answer = await self._begin(request, parse_object(request.body), form, prompts, account)
            if not answer.options.stream:
                return await answer.whole()
            await answer.begun()
            return StreamResponse(answer.stream(), headers=sse.HEADERS)
        except RequestError as error:
            account.failed(error)
            return error_response(error)

    async def _begin(self, request: Request, source: Object, form: Form, prompts: Prompts, account: Account) -> Answer:
        """Start to generate what a body asks for; raise a RequestError where that cannot be."""
        options = read_options(source, self._service.settings.max_concurrent, random_seed)
        if not self._service.names(options.model):
            raise ModelUnknown(options.model)
        self._service.admit(request)
        model = await self._service.model()
        tokens = prompts(source, model)
        tasks = _tasks(options, tokens, model.max_total_tokens)
        account.validated(tokens, max(task.max_new_tokens for task in tasks))
        generation = self._service.generate(request, model, tasks)
        return Answer(form, options, tokens, generation, account)


def chat_prompts(source: Object, model: Loaded) -> list[list[int]]:
    """Return the tokens of a conversation."""
    # The template writes the special tokens itself.
    return [model.assets.codec.encode(render(model, read_messages(source)), add_special_tokens=False)]


def plain_prompts(source: Object, model: Loaded) -> list[list[int]]:
    """Return the tokens of each prompt of a plain completion."""
    size, codec = model.assets.config.vocabulary, model.assets.codec
    tokens = []
    for prompt in read_prompts(source):
        ids = codec.encode(prompt, add_special_tokens=True) if isinstance(prompt, str) else prompt
        if not ids:
            raise InvalidRequest("`prompt` must not be empty", "prompt")
        if not all(0 <= token < size for token in ids):
            raise InvalidRequest(f"`prompt` has tokens outside the vocabulary of {size}", "prompt")
        tokens.append(ids)
    return tokens


def _tasks(options: Options, prompts: list[list[int]], total: int) -> list[Task]:
    """Return one task for each answer: `n` to each prompt, each with a seed of its own."""
    tasks = []
    for prompt in prompts:
        length = answer_length(prompt, options.max_tokens, total)
        for number in range(options.count):
            sampling = replace(options.sampling, seed=options.sampling.seed + number)
            tasks.append(Task(prompt, length, sampling, options.stops))
    return tasks


class Answer:
    """One request's answer in OpenAI's form, whole or as a stream."""

    def __init__(
        self, form: Form, options: Options, prompts: list[list[int]], generation: Generation, account: Account
    ) -> None:
        self._form = form
        self.options = options
        self._prompt_tokens = sum(len(prompt) for prompt in prompts)
        self._generation = generation
        self._account = account
        self._id = form.id_prefix + secrets.token_hex(12)
        self._created = int(time.time())

    async def begun(self) -> None:
        """Wait for the first token, or the first silence; raise GenerationFailed where there will be none."""
        await self._generation.begun(PING_SECONDS)

    async def text(self) -> str:
        """Wait for the first answer and return its text alone."""
        answers = await self._generation.collect()
        self._account.finished(self._generation.sequences)
        return "".join(event.visible for event in answers[0])

    async def whole(self) -> Response:
        """Wait for all answers and return them in one piece."""
        answers = await self._generation.collect()
        choices = []
        for index, events in enumerate(answers):
            finish = events[-1].finish
            assert finish is not None
            choices.append(self._choice(index, self._form.whole("".join(e.visible for e in events)), finish))
        self._account.finished(self._generation.sequences)
        return json_response(200, {**self._envelope(self._form.object, choices), "usage": self._usage()})

    async def stream(self) -> AsyncIterator[bytes]:
        """Yield the answer's events; an error that comes now is the last of them."""
        opened: set[int] = set()
        try:
            async for item in self._generation.events(PING_SECONDS):
                yield sse.PING if item is None else b"".join(self._events(*item, opened))
        except RequestError as error:
            self._account.failed(error)
            yield sse.event(error_content(error))
            raise StreamBroken from error
        self._account.finished(self._generation.sequences)
        if self.options.include_usage:
            yield sse.event({**self._envelope(self._form.chunk_object, []), "usage": self._usage()})
        yield sse.DONE

    def _events(self, index: int, event: TokenEvent, opened: set[int]) -> Iterator[bytes]:
        """Return the events that one token makes: none, where its text is held back."""
        if index not in opened and self._form.opening is not None:
            yield self._chunk(self._choice(index, self._form.opening, None))
        opened.add(index)
        if event.visible:
            yield self._chunk(self._choice(index, self._form.piece(event.visible), None))
        if event.finish is not None:
            yield self._chunk(self._choice(index, self._form.closing, event.finish))

    def _chunk(self, choice: Object) -> bytes:
        content = self._envelope(self._form.chunk_object, [choice])
        if self.options.include_usage:
            content["usage"] = None
        return sse.event(content)

    def _choice(self, index: int, content: Object, finish: Finish | None) -> Object:
        reason = None if finish is None else finish_reason(finish)
        return {"index": index, **content, "logprobs": None, "finish_reason": reason}

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
        completion = sum(len(sequence.answer) for sequence in self._generation.sequences)
        return {
            "prompt_tokens": self._prompt_tokens,
            "completion_tokens": completion,
            "total_tokens": self._prompt_tokens + completion,
        }
