"""Failures on the way to an answer, in the shape of each protocol, before and after its first byte."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any, cast

import pytest

from zerotide_runtime import errors
from zerotide_runtime.codec import Codec
from zerotide_runtime.engine.engine import Engine
from zerotide_runtime.engine.request import Event, FailureEvent, Finish, Sampling, Sequence, TokenEvent
from zerotide_runtime.engine.text import Detokeniser, StopStrings
from zerotide_runtime.errors import GenerationFailed, InvalidRequest, NotReady, Overloaded, RequestError, TemplateError
from zerotide_runtime.server import openai_answer, openai_errors, tgi_answer, tgi_errors
from zerotide_runtime.server.accounting import Account
from zerotide_runtime.server.admin import Admin, Keeper
from zerotide_runtime.server.generation import Generation
from zerotide_runtime.server.message import Request, Response, StreamBroken
from zerotide_runtime.server.openai_choice import ChatChoice
from zerotide_runtime.server.openai_limits import ContextTooLong
from zerotide_runtime.server.openai_params import read_chat_options
from zerotide_runtime.server.routes import Routes
from zerotide_runtime.server.service import Loaded, Service
from zerotide_runtime.server.telemetry import Telemetry
from zerotide_runtime.server.tgi_params import read_parameters
from zerotide_runtime.startup import Startup

from .test_text import Bytes


class Stand:
    """An engine whose events the test sends itself."""

    def __init__(self) -> None:
        self.sequences: list[Sequence] = []
        self.cancelled: list[Sequence] = []

    def submit(self, sequence: Sequence) -> None:
        self.sequences.append(sequence)

    def cancel(self, sequence: Sequence) -> None:
        self.cancelled.append(sequence)

    def generation(self, count: int = 1) -> Generation:
        def make(index: int, sink: Any) -> Sequence:
            return Sequence([1], 9, frozenset(), Sampling(), StopStrings(), Detokeniser(Bytes()), sink)

        return Generation(cast(Engine, self), make, count)


def token(text: str, finish: Finish | None = None) -> TokenEvent:
    return TokenEvent(65, text, text, -0.5, False, finish)


END: Event = token("!", Finish(length=True))


@pytest.fixture
def telemetry() -> Telemetry:
    return Telemetry(Startup(), lambda: (0, 0))


async def test_silence_is_told_after_each_pause() -> None:
    stand = Stand()
    generation = stand.generation()
    assert not await generation.begun(0.001)
    events = generation.events(0.001)
    assert await anext(events) is None
    stand.sequences[0].sink(END)
    assert await anext(events) == (0, END)
    assert not generation.cancel(), "nothing is unfinished"
    assert stand.cancelled == []


async def test_what_is_unfinished_is_cancelled() -> None:
    stand = Stand()
    generation = stand.generation(2)
    stand.sequences[0].sink(END)
    assert await generation.begun(10)
    assert generation.cancel()
    assert stand.cancelled == stand.sequences


async def test_a_failure_before_the_first_token() -> None:
    stand = Stand()
    generation = stand.generation()
    stand.sequences[0].sink(FailureEvent("boom"))
    with pytest.raises(GenerationFailed, match="boom"):
        await generation.begun(10)


async def collect(stream: Any) -> list[bytes]:
    """Return the pieces of a stream that must break."""
    pieces = []
    with pytest.raises(StreamBroken):
        async for piece in stream:
            pieces.append(piece)
    return pieces


async def test_a_failure_in_an_openai_stream_is_its_last_event(telemetry: Telemetry) -> None:
    stand = Stand()
    options = read_chat_options({"model": "m", "stream": True}, 1, lambda: 0)
    choice = ChatChoice(cast(Codec, None), options, None)
    answer = openai_answer.Answer(openai_answer.CHAT, options, stand.generation(), Account(telemetry), lambda _: choice)
    stand.sequences[0].sink(token("A"))
    stand.sequences[0].sink(FailureEvent("boom"))
    *_, last = await collect(answer.stream())
    error = json.loads(last.removeprefix(b"data: "))["error"]
    assert error == {"message": "boom", "type": "server_error", "param": None, "code": "generation_failed"}
    assert b'tgi_request_failure{err="generation"} 1' in telemetry.page()


async def test_a_failure_in_a_tgi_stream_is_its_last_event(telemetry: Telemetry) -> None:
    stand = Stand()
    parameters = read_parameters({"inputs": "x"}, stream=True, full_text=False, random_seed=lambda: 0)
    model = cast(Loaded, type("Model", (), {"assets": type("Assets", (), {"codec": None})}))
    answer = tgi_answer.Answer(parameters, model, 1, stand.generation(), Account(telemetry))
    stand.sequences[0].sink(token("A"))
    stand.sequences[0].sink(FailureEvent("boom"))
    first, last = await collect(answer.stream())
    assert json.loads(first.removeprefix(b"data:"))["token"]["text"] == "A"
    assert json.loads(last.removeprefix(b"data:")) == {
        "error": "Request failed during generation: boom",
        "error_type": "generation",
    }


@pytest.mark.parametrize(
    ("error", "openai", "tgi"),
    [
        (
            InvalidRequest("x", "n"),
            (400, "invalid_request_error", None),
            (422, "Input validation error: x", "validation"),
        ),
        (ContextTooLong("x"), (400, "invalid_request_error", "context_length_exceeded"), None),
        (TemplateError("x"), (400, "invalid_request_error", None), (422, "Template error: x", "template_error")),
        (Overloaded("x"), (429, "rate_limit_error", "overloaded"), (429, "x", "overloaded")),
        (NotReady("x"), (503, "service_unavailable", "not_ready"), (503, "x", "healthcheck")),
        (
            GenerationFailed("x"),
            (500, "server_error", "generation_failed"),
            (424, "Request failed during generation: x", "generation"),
        ),
    ],
)
def test_every_error_has_its_shape(error: RequestError, openai: tuple[Any, ...], tgi: tuple[Any, ...] | None) -> None:
    answer = openai_errors.error_response(error)
    body = json.loads(answer.body)["error"]
    assert (answer.status, body["type"], body["code"]) == openai
    assert ("retry-after" in answer.headers) == (answer.status in (429, 503))
    if tgi is not None:
        answer = tgi_errors.error_response(error)
        body = json.loads(answer.body)
        assert (answer.status, body["error"], body["error_type"]) == tgi


def test_the_tree_of_errors_is_the_one_that_is_drawn() -> None:
    drawn = errors.__doc__ or ""
    classes = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)]
    for kind in classes:
        assert kind.__name__ in drawn
    reasons = {kind.reason for kind in classes if issubclass(kind, errors.StartError)}
    assert {"ModelNotFound", "ModelDownloadFailed", "CredentialsMissing", "OutOfMemory"} <= reasons


async def test_a_fault_of_our_own_is_said_to_be_one(caplog: pytest.LogCaptureFixture) -> None:
    class Broken:
        """A service of which nothing works."""

        settings = SimpleNamespace(api_key=None)

    routes = Routes(cast(Service, Broken()), Admin(cast(Keeper, Broken()), None))
    answer = await routes(Request("GET", "/v1/models", {}))
    assert isinstance(answer, Response)
    assert (answer.status, json.loads(answer.body)["error"]["type"]) == (500, "server_error")
    answer = await routes(Request("GET", "/health", {}))
    assert isinstance(answer, Response)
    assert (answer.status, json.loads(answer.body)) == (500, {"error": "internal error", "error_type": "server_error"})
    assert "GET /health failed" in caplog.text
