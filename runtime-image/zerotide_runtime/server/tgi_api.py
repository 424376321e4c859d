"""TGI's routes that generate: /generate, /generate_stream and POST /, which the text-generation client uses."""

from __future__ import annotations

from dataclasses import replace

from zerotide_runtime.errors import RequestError
from zerotide_runtime.server import sse
from zerotide_runtime.server.accounting import Account
from zerotide_runtime.server.fields import Object, boolean, parse_object
from zerotide_runtime.server.message import Request, Response, StreamResponse
from zerotide_runtime.server.service import Loaded, Service, Task, random_seed
from zerotide_runtime.server.tgi_answer import Answer
from zerotide_runtime.server.tgi_errors import error_response
from zerotide_runtime.server.tgi_params import Bounds, Parameters, fit, read_parameters


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

    async def begin(
        self, request: Request, source: Object, account: Account, *, stream: bool, full_text: bool
    ) -> tuple[Answer, Parameters]:
        """Start to generate what a body asks for; raise a RequestError where that cannot be."""
        bounds = Bounds.of(self._service.settings)
        parameters = read_parameters(source, stream=stream, full_text=full_text, random_seed=random_seed, bounds=bounds)
        self._service.admit(request)
        model = await self._service.model()
        tokens = model.assets.codec.encode(parameters.inputs, add_special_tokens=parameters.add_special_tokens)
        tokens, length = fit(tokens, parameters, model.max_total_tokens)
        tasks = await self._tasks(parameters, model, tokens, length)
        account.validated([tokens], length)
        generation = self._service.generate(request, model, tasks)
        return Answer(parameters, model, len(tokens), generation, account), parameters

    async def _answer(self, request: Request, stream: bool | None) -> Response | StreamResponse:
        """Generate; `stream` None is the compatibility route, which decides by the body."""
        account = Account(self._service.telemetry)
        compatible = stream is None
        try:
            source = parse_object(request.body)
            if stream is None:
                stream = boolean(source, "stream")
            # The Hub's pipelines return the prompt too, and the compatibility route stands in for them.
            answer, parameters = await self.begin(request, source, account, stream=stream, full_text=compatible)
            if not stream:
                return await answer.whole(self._size_headers(parameters), as_list=compatible)
            await answer.begun()
            return StreamResponse(answer.stream(), headers={**sse.HEADERS, **self._size_headers(parameters)})
        except RequestError as error:
            account.failed(error)
            return error_response(error)

    @staticmethod
    async def _tasks(parameters: Parameters, model: Loaded, tokens: list[int], length: int) -> list[Task]:
        """Return one task for each answer to choose from."""
        count, grammar = parameters.best_of, parameters.grammar
        bound = [None] * count if grammar is None else await model.grammars.bind(grammar, count)
        first = parameters.sampling
        samplings = [first, *(replace(first, seed=random_seed()) for _ in range(count - 1))]
        return [
            Task(tokens, length, sampling, parameters.stops, True, parameters.report, held, adapter=parameters.adapter)
            for sampling, held in zip(samplings, bound, strict=True)
        ]

    def _size_headers(self, parameters: Parameters) -> dict[str, str]:
        """Return the headers that are known before the answer is."""
        return {"x-compute-type": self._service.compute_type, "x-compute-characters": str(len(parameters.inputs))}
