"""OpenAI's routes: chat completions, plain completions and the list of models."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace

from zerotide_runtime.engine.request import Report
from zerotide_runtime.errors import GrammarInvalid, GrammarUnsupported, RequestError
from zerotide_runtime.server import sse
from zerotide_runtime.server.accounting import Account
from zerotide_runtime.server.fields import Object, parse_object
from zerotide_runtime.server.message import Request, Response, StreamResponse, json_response
from zerotide_runtime.server.openai_answer import CHAT, PLAIN, Answer
from zerotide_runtime.server.openai_choice import ChatChoice, PlainChoice
from zerotide_runtime.server.openai_errors import ModelUnknown, error_response
from zerotide_runtime.server.openai_limits import answer_length, check_biases, check_count
from zerotide_runtime.server.openai_messages import read_messages, render
from zerotide_runtime.server.openai_params import Options, read_chat_options, read_plain_options
from zerotide_runtime.server.openai_prompts import encode_prompts, read_prompts
from zerotide_runtime.server.service import Loaded, Service, Task, random_seed
from zerotide_runtime.server.tool_calls import CallParser
from zerotide_runtime.tool_formats import HERMES, Format

Begin = Callable[[Request, Object, Account], Awaitable[Answer]]


class OpenAI:
    """The handlers of OpenAI's routes."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def chat(self, request: Request) -> Response | StreamResponse:
        """Answer POST /v1/chat/completions."""
        return await self._complete(request, self._begin_chat)

    async def completions(self, request: Request) -> Response | StreamResponse:
        """Answer POST /v1/completions."""
        return await self._complete(request, self._begin_plain)

    async def text(self, request: Request, source: Object, account: Account) -> str:
        """Return the text that answers a conversation; raise a RequestError where there is none."""
        answer = await self._begin_chat(request, {**source, "stream": False}, account)
        return await answer.text()

    async def models(self, request: Request) -> Response:
        """Answer GET /v1/models."""
        settings = self._service.settings
        names = [settings.model_name, *(f"{settings.model_name}:{adapter}" for adapter, _ in settings.adapters)]
        return json_response(200, {"object": "list", "data": [self._card(name) for name in names]})

    async def model(self, request: Request) -> Response:
        """Answer GET /v1/models/{id}."""
        name = request.path.removeprefix("/v1/models/")
        if self._service.find(name) is None:
            return error_response(ModelUnknown(name))
        return json_response(200, self._card(name))

    def _card(self, name: str) -> Object:
        card = {"id": name, "object": "model", "created": self._service.created, "owned_by": "zerotide"}
        return {**card, "parent": name.rpartition(":")[0]} if self._service.find(name) else card

    async def _complete(self, request: Request, begin: Begin) -> Response | StreamResponse:
        account = Account(self._service.telemetry)
        try:
            answer = await begin(request, parse_object(request.body), account)
            if not answer.options.stream:
                return await answer.whole()
            await answer.begun()
            return StreamResponse(answer.stream(), headers=sse.HEADERS)
        except RequestError as error:
            account.failed(error)
            return error_response(error)

    async def _begin_chat(self, request: Request, source: Object, account: Account) -> Answer:
        """Start to answer a conversation; raise a RequestError where that cannot be."""
        options = read_chat_options(source, self._service.settings.max_concurrent, random_seed)
        messages = read_messages(source)
        model, options = await self._admit(request, options)
        # The template writes the special tokens itself.
        prompt = model.assets.codec.encode(render(model, messages, options.tools), add_special_tokens=False)
        form = (model.assets.template and model.assets.template.tool_format) or HERMES
        tasks = await _constrained(_tasks(options, [prompt], model), options, form, model)
        account.validated([prompt], max(task.max_new_tokens for task in tasks))
        generation = self._service.generate(request, model, tasks)
        tools = options.tools

        def parser() -> CallParser | None:
            return None if tools is None else CallParser(form, tools.names, parallel=tools.parallel)

        return Answer(CHAT, options, generation, account, lambda _: ChatChoice(model.assets.codec, options, parser()))

    async def _begin_plain(self, request: Request, source: Object, account: Account) -> Answer:
        """Start to complete prompts; raise a RequestError where that cannot be."""
        options = read_plain_options(source, self._service.settings.max_concurrent, random_seed)
        prompts = read_prompts(source)
        check_count(len(prompts), options.best_of)
        model, options = await self._admit(request, options)
        tokens = encode_prompts(prompts, model)
        tasks = _tasks(options, tokens, model)
        account.validated(tokens, max(task.max_new_tokens for task in tasks))
        generation = self._service.generate(request, model, tasks)
        return Answer(
            PLAIN, options, generation, account, lambda sequence: PlainChoice(model.assets.codec, options, sequence)
        )

    async def _admit(self, request: Request, options: Options) -> tuple[Loaded, Options]:
        """Return the model that a request names, once there is room for it, and the options with its adapter."""
        adapter = self._service.find(options.model)
        if adapter is None:
            raise ModelUnknown(options.model)
        self._service.admit(request)
        model = await self._service.model()
        check_biases(options, model.assets.config.vocabulary)
        return model, replace(options, adapter=adapter)


def _tasks(options: Options, prompts: list[list[int]], model: Loaded) -> list[Task]:
    """Return one task for each answer: `best_of` to each prompt, each with a seed of its own."""
    report = options.report or Report(raw=options.best_of > options.count)
    tasks = []
    for prompt in prompts:
        length = answer_length(prompt, options.max_tokens, model.max_total_tokens)
        for number in range(options.best_of):
            sampling = replace(options.sampling, seed=options.sampling.seed + number)
            tasks.append(
                Task(prompt, length, sampling, options.stops, report=report, salt=options.salt, adapter=options.adapter)
            )
    return tasks


async def _constrained(tasks: list[Task], options: Options, form: Format, model: Loaded) -> list[Task]:
    """Return the tasks held to the grammar of a forced call or of the format asked for."""
    forced = options.tools and options.tools.grammar(form)
    grammar, param = (forced, "tools") if forced else (options.grammar, "response_format")
    if grammar is None:
        return tasks
    try:
        bound = await model.grammars.bind(grammar, len(tasks))
    except (GrammarInvalid, GrammarUnsupported) as error:
        error.param = param
        raise
    return [replace(task, constraint=constraint) for task, constraint in zip(tasks, bound, strict=True)]
