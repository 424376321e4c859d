"""Finding calls in a growing text: however it is cut, the same parts; what only resembles a call is text."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerotide_runtime.server.tool_calls import Argued, Called, CallParser, Part, Said
from zerotide_runtime.tool_formats import HERMES, LLAMA, MISTRAL, Format, format_of

NAMES = frozenset({"weather", "time"})


def read(form: Format, *pieces: str, parallel: bool = True) -> list[tuple[str, str]]:
    """Return what a text says and calls, its pieces joined."""
    parser = CallParser(form, NAMES, parallel=parallel)
    parts: list[Part] = [part for piece in pieces for part in parser.push(piece)] + parser.finish()
    joined: list[tuple[str, str]] = []
    for part in parts:
        if isinstance(part, Called):
            joined.append((part.name, ""))
        elif isinstance(part, Argued):
            joined[-1] = (joined[-1][0], joined[-1][1] + part.text)
        elif joined and joined[-1][0] == "":
            joined[-1] = ("", joined[-1][1] + part.text)
        else:
            joined.append(("", part.text))
    return joined


ROME = '{"city": "Rome"}'
CASES = [
    (HERMES, "hello", [("", "hello")]),
    (HERMES, '<tool_call>\n{"name": "weather", "arguments": {"city": "Rome"}}\n</tool_call>', [("weather", ROME)]),
    (
        HERMES,
        'Let me see. <tool_call>{"name":"weather","arguments":{"city": "Rome"}}</tool_call>\n'
        '<tool_call>{"name": "time", "arguments": {}}</tool_call>\n',
        [("", "Let me see. "), ("weather", ROME), ("time", "{}")],
    ),
    (HERMES, '<tool_call>{"name": "weather", "arguments": {"city": "Rome"}}</tool_call> Done.', None),
    (HERMES, '<tool_call>{"arguments": {"city": "Rome"}, "name": "weather"}</tool_call>', [("weather", ROME)]),
    (HERMES, '<tool_call>{"name": "weather", "arguments": {"a": "}\\"{", "b": [{}]}}</tool_call>', None),
    (HERMES, '<tool_call>{"name": "weather", "arguments": {"city": "Ro', [("weather", '{"city": "Ro')]),
    (HERMES, '<tool_call>{"name": "nobody", "arguments": {}}</tool_call>', "text"),
    (HERMES, '<tool_call>{"name": "weather"}</tool_call>', "text"),
    (HERMES, "<tool_call>no</tool_call>", "text"),
    (HERMES, '<tool_call>{"name": "wea', "text"),
    (HERMES, "a < b and <tool", "text"),
    (HERMES, '{"name": "weather", "arguments": {}}', "text"),
    (MISTRAL, '[{"name": "weather", "arguments": {"city": "Rome"}}]', [("weather", ROME)]),
    (MISTRAL, '[TOOL_CALLS][{"name": "time", "arguments": {}}, {"name": "time", "arguments": {}}]', None),
    (MISTRAL, "[1, 2]", "text"),
    (MISTRAL, '[{"name": "weather", "arguments": {}}, x', [("weather", "{}"), ("", ", x")]),
    (LLAMA, '{"name": "weather", "parameters": {"city": "Rome"}}', [("weather", ROME)]),
    (LLAMA, '<|python_tag|>{"name": "time", "parameters": {}}; {"name": "time", "parameters": {}}', None),
    (LLAMA, '{"temperature": 20}', "text"),
    (LLAMA, "It is warm.", "text"),
    (LLAMA, "", []),
]


@pytest.mark.parametrize(("form", "text", "expected"), CASES)
def test_texts_with_and_without_calls(form: Format, text: str, expected: Any) -> None:
    whole = read(form, text)
    assert read(form, *text) == whole, "character by character"
    if expected == "text":
        assert whole == [("", text)]
    elif expected is not None:
        assert whole == expected
    for name, arguments in whole:
        if name and arguments.endswith("}"):
            assert isinstance(json.loads(arguments), dict)


def test_the_text_after_a_call_is_kept() -> None:
    text = '<tool_call>{"name": "time", "arguments": {}}</tool_call> Done.'
    assert read(HERMES, text) == [("time", "{}"), ("", " Done.")]


def test_a_second_call_is_dropped_where_one_is_wanted() -> None:
    call = '<tool_call>{"name": "time", "arguments": {}}</tool_call>'
    assert read(HERMES, call * 2, parallel=False) == [("time", "{}")]
    assert read(HERMES, call * 2) == [("time", "{}")] * 2


def test_arguments_are_passed_on_as_they_come() -> None:
    parser = CallParser(HERMES, NAMES)
    assert parser.push('x<tool_call>{"name": "time", "arguments": ') == [Said("x")]
    assert parser.push('{"zone": "Eur') == [Called("time"), Argued('{"zone": "Eur')]
    assert parser.push('ope"}') == [Argued('ope"}')]
    assert parser.push("}</tool_call>") == []
    assert parser.called


pieces = st.sampled_from(
    ["<tool_call>", "</tool_call>", '{"name": "time", "arguments": ', '{"a": 1}', "}", "{", "[", "]", ", ", "; ", " "]
)


@given(st.sampled_from([HERMES, MISTRAL, LLAMA]), st.lists(pieces | st.text(max_size=3), max_size=12), st.data())
def test_how_a_text_is_cut_does_not_matter(form: Format, words: list[str], data: st.DataObject) -> None:
    text = "".join(words)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=6)))
    parts = [text[a:b] for a, b in pairwise([0, *cuts, len(text)])]
    assert read(form, *parts) == read(form, text)


@pytest.mark.parametrize(
    ("template", "form"),
    [
        ("{% for m in messages %}{% endfor %}", None),
        ("{% if tools %}<tool_call>{% endif %}", HERMES),
        ("{% if tools %}[AVAILABLE_TOOLS]…[TOOL_CALLS]{% endif %}", MISTRAL),
        ('{% if tools %}Respond in the format {"name": function name, "parameters": …}{% endif %}', LLAMA),
        ("{% if tools %}{{ tools }}{% endif %}", HERMES),
    ],
)
def test_the_template_tells_the_format(template: str, form: Format | None) -> None:
    assert format_of(template) == form
