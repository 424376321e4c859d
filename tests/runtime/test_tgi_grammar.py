"""TGI's `grammar`: answers that match a regular expression or a JSON schema, and what is refused."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from tests.runtime.process import RuntimeProcess

from .test_tgi import PROMPT, events, generate

PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 6}, "age": {"type": "integer", "maximum": 120}},
    "required": ["name", "age"],
    "additionalProperties": False,
}


def test_a_regular_expression(server: RuntimeProcess) -> None:
    grammar = {"type": "regex", "value": r"[0-9]{3}-[0-9]{4}"}
    body = generate(server, max_new_tokens=40, details=True, grammar=grammar)
    assert re.fullmatch(r"\d{3}-\d{4}", body["generated_text"])
    assert body["details"]["finish_reason"] == "eos_token"
    chunks = events(server, "/generate_stream", inputs=PROMPT, parameters={"grammar": grammar, "max_new_tokens": 40})
    assert chunks[-1]["generated_text"] == body["generated_text"]


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("json", PERSON),
        ("json_object", json.dumps(PERSON)),
        ("json_schema", {"name": "person", "schema": PERSON}),
    ],
)
def test_a_schema(server: RuntimeProcess, kind: str, value: Any) -> None:
    text = generate(server, max_new_tokens=60, grammar={"type": kind, "value": value})["generated_text"]
    person = json.loads(text)
    assert person.keys() == {"name", "age"}
    assert isinstance(person["name"], str)
    assert person["age"] <= 120


def test_sampling_keeps_to_the_grammar(server: RuntimeProcess) -> None:
    grammar = {"type": "regex", "value": "(yes|no|maybe)"}
    for seed in range(2):
        asked: dict[str, Any] = {"do_sample": True, "temperature": 5.0, "top_k": 2, "seed": seed}
        text = generate(server, max_new_tokens=10, grammar=grammar, **asked)["generated_text"]
        assert text in ("yes", "no", "maybe")


def test_too_few_tokens_cut_it_off(server: RuntimeProcess) -> None:
    asked: dict[str, Any] = {"max_new_tokens": 2, "details": True}
    body = generate(server, grammar={"type": "regex", "value": "[0-9]{50}"}, **asked)
    assert body["details"]["finish_reason"] == "length"
    assert re.fullmatch(r"\d+", body["generated_text"])


@pytest.mark.parametrize(
    ("grammar", "said"),
    [
        ({"type": "regex", "value": "(a"}, "unclosed group"),
        ({"type": "regex", "value": "(?=a)b"}, "look-ahead"),
        ({"type": "regex", "value": 5}, "`value` must be a string"),
        ({"type": "bnf", "value": "x"}, "`type` must be one of"),
        ({"type": "json", "value": {"type": "object"}}, "Grammar must have a 'properties' field"),
        ({"type": "json", "value": "{"}, "Expecting property name"),
        ({"type": "json", "value": 7}, "Grammar must be a string or JSON object"),
        ({"type": "json", "value": {"properties": {"a": {"type": "nothing"}}}}, "nothing"),
        ({"type": "json_schema", "value": {"name": "x"}}, "Grammar must be a string or JSON object"),
    ],
)
def test_a_grammar_that_cannot_be_is_refused(server: RuntimeProcess, grammar: dict[str, Any], said: str) -> None:
    status, body = server.call("POST", "/generate", {"inputs": "x", "parameters": {"grammar": grammar}})
    assert (status, body["error_type"]) == (422, "validation")
    assert body["error"].startswith("Input validation error: grammar is not valid: ")
    assert said in body["error"]
    assert "\n" not in body["error"]
