"""OpenAI's response_format: JSON objects, JSON by a schema, and the client's own models of answers."""

from __future__ import annotations

import json
from typing import Any, Literal

import openai
import pydantic

from tests.runtime.process import RuntimeProcess

from .test_openai import GREEDY, QUESTION, client

__all__ = ["client"]  # the fixture


class Capital(pydantic.BaseModel):
    city: Literal["Paris", "Rome", "Berlin"]
    inhabitants: int


def test_a_schema_from_the_clients_model(client: openai.OpenAI) -> None:
    answer = client.chat.completions.parse(
        model="smollm2", messages=QUESTION, temperature=0, max_tokens=60, response_format=Capital
    )
    capital = answer.choices[0].message.parsed
    assert capital is not None
    assert capital.city == "Paris"
    assert answer.choices[0].finish_reason == "stop"


def test_a_streamed_schema_is_the_same(client: openai.OpenAI) -> None:
    schema: dict[str, Any] = {"type": "object", "properties": {"yes": {"type": "boolean"}}, "required": ["yes"]}
    schema["additionalProperties"] = False
    asked: dict[str, Any] = {
        **GREEDY,
        "response_format": {"type": "json_schema", "json_schema": {"name": "it", "strict": True, "schema": schema}},
    }
    whole = client.chat.completions.create(**asked).choices[0].message.content
    chunks = client.chat.completions.create(**asked, stream=True)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == whole
    assert json.loads(whole or "").keys() == {"yes"}


def test_any_object(client: openai.OpenAI) -> None:
    asked: dict[str, Any] = {**GREEDY, "response_format": {"type": "json_object"}, "max_tokens": 100, "n": 2}
    first, second = client.chat.completions.create(**asked).choices
    assert (first.message.content or "").startswith("{")
    if first.finish_reason == "stop":
        assert isinstance(json.loads(first.message.content or ""), dict)
    assert second.message.content == first.message.content


def test_a_schema_that_cannot_be_is_refused(server: RuntimeProcess) -> None:
    wrong = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "nothing"}}}
    status, body = server.call("POST", "/v1/chat/completions", {**GREEDY, "response_format": wrong})
    assert (status, body["error"]["param"]) == (400, "response_format")
    assert body["error"]["message"].startswith("grammar is not valid: ")
