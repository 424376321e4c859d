"""TGI's routes that only look at text: /tokenize and /chat_tokenize."""

from __future__ import annotations

from zerotide_runtime.errors import RequestError
from zerotide_runtime.server.fields import Object, boolean, integer, nested, parse_object
from zerotide_runtime.server.message import Request, Response, json_response
from zerotide_runtime.server.openai_messages import read_messages, render
from zerotide_runtime.server.openai_tools import read_tools
from zerotide_runtime.server.service import Loaded, Service
from zerotide_runtime.server.tgi_errors import error_response
from zerotide_runtime.server.tgi_params import read_inputs


class Tokenization:
    """The handlers of the two routes."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def tokenize(self, request: Request) -> Response:
        """Answer POST /tokenize with the tokens of `inputs`, the last `truncate` of them where that is set."""
        try:
            source = parse_object(request.body)
            inputs = read_inputs(source)
            truncate = integer(nested(source, "parameters") or {}, "truncate")
            special = boolean(source, "add_special_tokens", True)
            tokens = _tokens(await self._service.model(), inputs, special=special)
            return json_response(200, tokens[-truncate:] if truncate else tokens)
        except RequestError as error:
            return error_response(error)

    async def chat_tokenize(self, request: Request) -> Response:
        """Answer POST /chat_tokenize with a conversation as the model reads it, and its tokens."""
        try:
            source = parse_object(request.body)
            model = await self._service.model()
            text = render(model, read_messages(source), read_tools(source))
            # The template writes the special tokens itself.
            tokens = _tokens(model, text, special=False)
            return json_response(200, {"tokenize_response": tokens, "templated_text": text})
        except RequestError as error:
            return error_response(error)


def _tokens(model: Loaded, text: str, *, special: bool) -> list[Object]:
    spans = model.assets.codec.spans(text, add_special_tokens=special)
    return [{"id": token, "text": text[start:stop], "start": start, "stop": stop} for token, start, stop in spans]
