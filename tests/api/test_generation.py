"""What an engine is asked for one token, and which answers hold one."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerotide.api.endpoint import Engine
from zerotide.api.generation import generated, one_token

OPENAI = {"id": "c", "object": "text_completion", "choices": [{"index": 0, "text": "", "finish_reason": "length"}]}


@pytest.mark.parametrize("engine", [Engine.ZEROTIDE, Engine.VLLM, Engine.SGLANG, Engine.LLAMACPP])
def test_most_engines_are_asked_in_openais_way(engine: Engine) -> None:
    """By the model's name, for one token and no more."""
    path, body = one_token(engine, "m", counted=True)
    assert (path, json.loads(body)) == ("/v1/completions", {"model": "m", "prompt": "a", "max_tokens": 1})


def test_tgi_is_asked_in_its_own_way() -> None:
    """It counts its tokens only where it is asked for details."""
    path, body = one_token(Engine.TGI, "m", counted=True)
    assert (path, json.loads(body)) == (
        "/generate",
        {"inputs": "a", "parameters": {"max_new_tokens": 1, "details": True}},
    )
    assert json.loads(one_token(Engine.TGI, "m").body)["parameters"] == {"max_new_tokens": 1}


@pytest.mark.parametrize(
    "answer",
    [
        {**OPENAI, "usage": {"prompt_tokens": 1, "completion_tokens": 1}},
        {**OPENAI, "choices": [{"index": 0, "text": " the"}]},
        {"generated_text": "a"},
        {"generated_text": "", "details": {"generated_tokens": 1}},
    ],
)
def test_answers_with_a_token(answer: object) -> None:
    """As text, or as a count: a special token, or part of a character, has no text."""
    assert generated(json.dumps(answer).encode())


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"ok",
        b'"the"',
        b"[1]",
        json.dumps(OPENAI).encode(),
        json.dumps({**OPENAI, "usage": {"completion_tokens": 0}}).encode(),
        json.dumps({**OPENAI, "usage": {"completion_tokens": True}}).encode(),
        json.dumps({"choices": [], "usage": None}).encode(),
        json.dumps({"error": {"message": "the model is still loading"}}).encode(),
        json.dumps({"generated_text": "", "details": {"generated_tokens": 0}}).encode(),
    ],
)
def test_answers_without_one(answer: bytes) -> None:
    """A page that answers everything with 200 proves nothing."""
    assert not generated(answer)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["choices", "usage", "details", "text"]), inner),
)


@given(JSON)
def test_any_answer_is_judged(answer: object) -> None:
    """Whatever an engine says, it is a yes or a no."""
    assert generated(json.dumps(answer).encode()) in (True, False)
