"""OpenAI's route for embeddings: a vector for each input, from models that say how to make one."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from zerotide_runtime.engine.embedding import Embedding, finished
from zerotide_runtime.engine.request import Sequence
from zerotide_runtime.errors import InvalidRequest, RequestError
from zerotide_runtime.pooling import Pooling
from zerotide_runtime.server.accounting import Account
from zerotide_runtime.server.fields import Object, integer, parse_object, text
from zerotide_runtime.server.message import Request, Response, json_response
from zerotide_runtime.server.openai_errors import (
    DimensionsUnsupported,
    EmbeddingsUnsupported,
    ModelUnknown,
    error_response,
)
from zerotide_runtime.server.openai_limits import ContextTooLong
from zerotide_runtime.server.openai_prompts import encode_prompts, read_prompts
from zerotide_runtime.server.service import Loaded, Service

if TYPE_CHECKING:
    from zerotide_runtime.engine.embedding import Floats

MAX_INPUTS = 2048  # of one request, as OpenAI has it
AT_ONCE = 8  # of them with the engine, so that a long list leaves places to others
FORMATS = ("float", "base64")


@dataclass(frozen=True)
class Wish:
    """What a request asks for."""

    model: str
    inputs: list[str | list[int]]
    form: str
    dimensions: int | None


def read_wish(source: Object) -> Wish:
    """Read a request's fields; raise InvalidRequest, which names the field."""
    model = text(source, "model")
    if model is None:
        raise InvalidRequest("you must provide a `model`", "model")
    form = text(source, "encoding_format") or "float"
    if form not in FORMATS:
        raise InvalidRequest("`encoding_format` must be float or base64", "encoding_format")
    inputs = read_prompts(source, "input")
    if len(inputs) > MAX_INPUTS:
        raise InvalidRequest(f"`input` may have at most {MAX_INPUTS} items; this one has {len(inputs)}", "input")
    return Wish(model, inputs, form, integer(source, "dimensions"))


class Embeddings:
    """The handler of the route."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def create(self, request: Request) -> Response:
        """Answer POST /v1/embeddings."""
        account = Account(self._service.telemetry)
        try:
            return await self._create(request, parse_object(request.body), account)
        except RequestError as error:
            account.failed(error)
            return error_response(error)

    async def _create(self, request: Request, source: Object, account: Account) -> Response:
        wish = read_wish(source)
        adapter = self._service.find(wish.model)
        if adapter is None:
            raise ModelUnknown(wish.model)
        self._service.admit(request)
        model = await self._service.model()
        pooling = model.assets.pooling
        if pooling is None:
            raise EmbeddingsUnsupported(wish.model)
        size = self._size(wish, model, pooling)
        prompts = encode_prompts(wish.inputs, model, "input")
        check_lengths(prompts, self._service.longest_input(model, pooling))
        account.validated(prompts, 0)
        sequences: list[Sequence] = []
        for first in range(0, len(prompts), AT_ONCE):
            generation = self._service.embed(request, model, prompts[first : first + AT_ONCE], pooling, adapter)
            await generation.collect()
            sequences += generation.sequences
        account.finished(sequences)
        vectors = [finished(s.vector, size, normalise=pooling.normalise) for s in sequences if isinstance(s, Embedding)]
        return json_response(200, answer(wish, vectors, sum(map(len, prompts))))

    @staticmethod
    def _size(wish: Wish, model: Loaded, pooling: Pooling) -> int:
        whole = model.assets.config.hidden
        size = whole if wish.dimensions is None else wish.dimensions
        if not pooling.cuts_to(size, whole):
            raise DimensionsUnsupported(size, whole, pooling.dimensions)
        return size


def check_lengths(prompts: list[list[int]], most: int) -> None:
    """Raise ContextTooLong for an input that the model cannot hold."""
    longest = max(map(len, prompts))
    if longest > most:
        message = f"This model's maximum context length is {most} tokens. However, an input has {longest} tokens."
        raise ContextTooLong(message, "input")


def answer(wish: Wish, vectors: list[Floats], tokens: int) -> Object:
    """Return the answer's content."""
    data = [{"object": "embedding", "index": i, "embedding": written(v, wish.form)} for i, v in enumerate(vectors)]
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return {"object": "list", "data": data, "model": wish.model, "usage": usage}


def written(vector: Floats, form: str) -> Any:
    """Return a vector as numbers, or as the base64 of its float32s, little-endian."""
    return vector.tolist() if form == "float" else base64.b64encode(vector.astype("<f4").tobytes()).decode()
