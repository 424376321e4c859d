"""OpenAI's tools by the openai client: forced calls, calls that the model decides on, results, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.runtime.models import make_tiny
from tests.runtime.process import RuntimeProcess, folder_uri

from .test_openai import client

__all__ = ["client"]  # the fixture

WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Tell the weather of a city",
        "parameters": {
            "type": "object",
            "properties": {"city": {"$ref": "#/$defs/city"}, "unit": {"enum": ["celsius", "fahrenheit"]}},
            "required": ["city", "unit"],
            "$defs": {"city": {"enum": ["Paris", "Rome"]}},
        },
    },
}
TIME: Any = {"type": "function", "function": {"name": "get_time"}}
ASKED: dict[str, Any] = {
    "model": "smollm2",
    "messages": [{"role": "user", "content": "What is the weather in Rome?"}],
    "temperature": 0,
    "max_tokens": 80,
    "tools": [WEATHER, TIME],
}
NAMED: dict[str, Any] = {"tool_choice": {"type": "function", "function": {"name": "get_weather"}}}


def test_a_function_that_must_be_called_is(client: openai.OpenAI) -> None:
    (choice,) = client.chat.completions.create(**ASKED, **NAMED).choices
    assert (choice.finish_reason, choice.message.content) == ("tool_calls", None)
    (call,) = choice.message.tool_calls or []
    assert call.type == "function"
    assert call.id.startswith("call_")
    assert call.function.name == "get_weather"
    arguments = json.loads(call.function.arguments)
    assert arguments.keys() == {"city", "unit"}
    assert arguments["city"] == "Rome"


def test_a_streamed_call_begins_with_its_name(client: openai.OpenAI) -> None:
    chunks = list(client.chat.completions.create(**ASKED, **NAMED, stream=True))
    deltas = [call for chunk in chunks for call in chunk.choices[0].delta.tool_calls or []]
    first, *rest = deltas
    assert (first.index, first.type) == (0, "function")
    assert first.id
    assert first.function is not None
    assert (first.function.name, first.function.arguments) == ("get_weather", "")
    assert len(rest) > 1, "arguments come as they are written"
    assert {delta.index for delta in rest} == {0}
    assert all(delta.id is None for delta in rest)
    joined = "".join(delta.function.arguments or "" for delta in rest if delta.function)
    assert json.loads(joined)["city"] == "Rome"
    assert chunks[-1].choices[0].finish_reason == "tool_calls"
    assert not any(chunk.choices[0].delta.content for chunk in chunks)


def test_one_of_the_functions_must_be_called(client: openai.OpenAI) -> None:
    asked = {**ASKED, "tool_choice": "required", "parallel_tool_calls": False}
    (choice,) = client.chat.completions.create(**asked).choices
    (call,) = choice.message.tool_calls or []
    assert call.type == "function"
    assert call.function.name in ("get_weather", "get_time")
    assert isinstance(json.loads(call.function.arguments), dict)


def test_the_model_decides_and_reads_results(client: openai.OpenAI) -> None:
    def called(city: str, number: int) -> list[Any]:
        function = {"name": "get_weather", "arguments": json.dumps({"city": city, "unit": "celsius"})}
        return [
            {"role": "user", "content": f"What is the weather in {city}?"},
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [{"id": f"call_{number}", "type": "function", "function": function}],
            },
            {"role": "tool", "tool_call_id": f"call_{number}", "content": '{"sky": "sunny"}'},
            {"role": "assistant", "content": f"It is sunny in {city}."},
        ]

    # A model this small calls functions once it has seen it done.
    history = [*called("Paris", 1), *called("Berlin", 2), *called("Madrid", 3)]
    asked = {**ASKED, "messages": [*history, {"role": "user", "content": "What is the weather in Rome?"}]}
    (choice,) = client.chat.completions.create(**asked).choices
    assert choice.finish_reason == "tool_calls"
    calls = [call for call in choice.message.tool_calls or [] if call.type == "function"]
    assert calls[0].function.name == "get_weather"
    assert json.loads(calls[0].function.arguments)["city"] == "Rome"
    silent = client.chat.completions.create(**{**asked, "tool_choice": "none", "max_tokens": 2})
    assert silent.choices[0].message.tool_calls is None


def test_too_few_tokens_cut_a_call_off(client: openai.OpenAI) -> None:
    (choice,) = client.chat.completions.create(**{**ASKED, **NAMED, "max_tokens": 24}).choices
    assert choice.finish_reason == "length"


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RuntimeProcess]:
    """Return a server with a random model whose template writes functions itself."""
    folder: Path = make_tiny(tmp_path_factory.mktemp("taught"), vocab_size=260)
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": 256}))
    (folder / "chat_template.jinja").write_text(
        "{% if messages[0].role == 'system' %}{{ raise_exception('no system here') }}{% endif %}"
        "{% if tools %}{% for t in tools %}{{ t.function.name }};{% endfor %}[TOOL_CALLS]{% endif %}"
        "{% for m in messages %}{{ m.role }}:{% if m.tool_calls %}{{ m.tool_calls[0].function.arguments.city }}"
        "{% else %}{{ m.content }}{% endif %}|{% endfor %}"
    )
    with RuntimeProcess(folder_uri(folder), name="tiny") as process:
        yield process.ready()


def test_a_template_that_knows_functions_gets_them(taught: RuntimeProcess) -> None:
    function = {"name": "get_weather", "arguments": '{"city": "Oslo"}'}
    messages = [
        {"role": "user", "content": "x"},
        {"role": "assistant", "tool_calls": [{"id": "1", "type": "function", "function": function}]},
        {"role": "tool", "tool_call_id": "1", "content": "sun"},
    ]
    asked = {**ASKED, "model": "tiny", "messages": messages, "max_tokens": 400, **NAMED}
    status, told = taught.call("POST", "/chat_tokenize", asked)
    assert status == 200
    assert told["templated_text"] == "get_weather;get_time;[TOOL_CALLS]user:x|assistant:Oslo|tool:sun|"
    status, body = taught.call("POST", "/v1/chat/completions", asked)
    assert status == 200
    (choice,) = body["choices"]
    (call,) = choice["message"]["tool_calls"]
    assert json.loads(call["function"]["arguments"])["city"] in ("Paris", "Rome"), "even a random model keeps to it"
    assert choice["finish_reason"] == "tool_calls"


def test_a_template_that_refuses_is_quoted(taught: RuntimeProcess) -> None:
    asked = {"model": "tiny", "messages": [{"role": "system", "content": "x"}]}
    said = "the model's chat template refuses these messages: no system here"
    status, body = taught.call("POST", "/chat_tokenize", asked)
    assert (status, body) == (422, {"error": f"Template error: {said}", "error_type": "template_error"})
    status, body = taught.call("POST", "/v1/chat/completions", asked)
    assert (status, body["error"]["message"], body["error"]["param"]) == (400, said, "messages")
    assert taught.metric('tgi_request_failure{err="template"}') == 1


BAD_TOOLS = [
    ({"tools": "x"}, "tools", "must be a list"),
    ({"tools": [{"type": "web"}]}, "tools[0]", "of type function"),
    ({"tools": [TIME, {"type": "function", "function": {"name": "a b"}}]}, "tools[1].function.name", "1 to 64"),
    (
        {"tools": [{"type": "function", "function": {"name": "f", "parameters": []}}]},
        "tools[0].function.parameters",
        "must be a JSON schema",
    ),
    ({"tools": None, "tool_choice": "required"}, "tool_choice", "only allowed when `tools`"),
    ({"tool_choice": "always"}, "tool_choice", "none, auto, required or one function"),
    ({"tool_choice": {"type": "function", "function": {"name": "f"}}}, "tool_choice", "not among `tools`"),
    (
        {
            "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "nothing"}}}],
            "tool_choice": "required",
        },
        "tools",
        "grammar is not valid",
    ),
]


@pytest.mark.parametrize(("change", "param", "said"), BAD_TOOLS)
def test_bad_tools_are_named(server: RuntimeProcess, change: dict[str, Any], param: str, said: str) -> None:
    status, body = server.call("POST", "/v1/chat/completions", {**ASKED, **change})
    assert (status, body["error"]["param"]) == (400, param)
    assert said in body["error"]["message"]
