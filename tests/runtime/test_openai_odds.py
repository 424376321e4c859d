"""OpenAI's log-probabilities, biases, echo and best_of, by the openai client."""

from __future__ import annotations

import math
from typing import Any

import openai
import pytest

from tests.runtime.process import RuntimeProcess

from .test_openai import ANSWER, GREEDY, client

__all__ = ["client"]  # the fixture

PROMPT = "The capital of France is"
PLAIN: dict[str, Any] = {"model": "smollm2", "prompt": PROMPT, "temperature": 0}


def test_a_chats_logprobs(client: openai.OpenAI) -> None:
    (choice,) = client.chat.completions.create(**GREEDY, logprobs=True, top_logprobs=2).choices
    assert choice.logprobs is not None
    content = choice.logprobs.content or []
    assert "".join(entry.token for entry in content) == ANSWER, "the end token is not shown"
    assert bytes(byte for entry in content for byte in entry.bytes or []) == ANSWER.encode()
    for entry in content:
        assert entry.top_logprobs[0].token == entry.token
        assert entry.top_logprobs[0].logprob == entry.logprob > entry.top_logprobs[1].logprob
    chunks = client.chat.completions.create(**GREEDY, logprobs=True, top_logprobs=2, stream=True)
    streamed = [e for chunk in chunks if chunk.choices[0].logprobs for e in chunk.choices[0].logprobs.content or []]
    assert [entry.token for entry in streamed] == [entry.token for entry in content]
    assert [entry.logprob for entry in streamed] == pytest.approx([entry.logprob for entry in content], abs=1e-3)


def test_logprobs_are_the_models_own(client: openai.OpenAI) -> None:
    asked: dict[str, Any] = {**GREEDY, "logprobs": True, "max_tokens": 1}
    plain = client.chat.completions.create(**asked).choices[0].logprobs
    changed = client.chat.completions.create(**{**asked, "temperature": 0.3, "top_p": 0.1}).choices[0].logprobs
    assert plain is not None
    assert changed is not None
    assert [e.logprob for e in plain.content or []] == pytest.approx(
        [e.logprob for e in changed.content or []], abs=1e-3
    )


def test_tokens_of_a_stop_string_have_no_logprobs(client: openai.OpenAI) -> None:
    (choice,) = client.chat.completions.create(**GREEDY, logprobs=True, stop=" France is").choices
    assert choice.message.content == "The capital of"
    assert choice.logprobs is not None
    assert [entry.token for entry in choice.logprobs.content or []] == ["The", " capital", " of"]
    assert (choice.logprobs.content or [])[0].top_logprobs == []


def test_a_bias_bans_a_token_or_forces_it(client: openai.OpenAI) -> None:
    banned = client.completions.create(**PLAIN, max_tokens=1, logit_bias={"7042": -100})
    assert banned.choices[0].text != " Paris"
    forced = client.completions.create(**PLAIN, max_tokens=3, logit_bias={"7042": 100})
    assert forced.choices[0].text == " Paris Paris Paris"


def test_a_completions_logprobs(client: openai.OpenAI) -> None:
    (choice,) = client.completions.create(**PLAIN, max_tokens=2, logprobs=2).choices
    odds = choice.logprobs
    assert odds is not None
    assert (odds.tokens, odds.text_offset) == ([" Paris", "."], [0, 6])
    assert odds.token_logprobs is not None
    assert odds.top_logprobs is not None
    assert all(-2 < value < 0 for value in odds.token_logprobs)
    assert next(iter(odds.top_logprobs[0].values())) == odds.token_logprobs[0]
    assert len(odds.top_logprobs[1]) == 2


@pytest.mark.parametrize("stream", [False, True])
def test_an_echo_with_the_prompts_odds(client: openai.OpenAI, stream: bool) -> None:
    answer: Any = client.completions.create(**PLAIN, max_tokens=1, logprobs=0, echo=True, stream=stream)
    choices: list[Any] = [chunk.choices[0] for chunk in answer] if stream else answer.choices
    assert "".join(choice.text for choice in choices) == PROMPT + " Paris"
    tokens = [token for choice in choices if choice.logprobs for token in choice.logprobs.tokens]
    values = [value for choice in choices if choice.logprobs for value in choice.logprobs.token_logprobs]
    offsets = [place for choice in choices if choice.logprobs for place in choice.logprobs.text_offset]
    assert tokens == ["The", " capital", " of", " France", " is", " Paris"]
    assert offsets == [0, 3, 11, 14, 21, 24]
    assert values[0] is None
    assert all(-12 < value < 0 for value in values[1:])
    assert choices[0].logprobs.top_logprobs is None


def test_the_odds_of_a_prompt_alone(client: openai.OpenAI) -> None:
    answer = client.completions.create(**PLAIN, max_tokens=0, logprobs=1, echo=True)
    (choice,) = answer.choices
    assert choice.text == PROMPT
    assert choice.logprobs is not None
    assert choice.logprobs.tokens is not None
    assert len(choice.logprobs.tokens) == 5
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (5, 0)


def test_the_best_of_several(client: openai.OpenAI) -> None:
    asked: dict[str, Any] = {**PLAIN, "temperature": 1.9, "seed": 3, "max_tokens": 6, "logprobs": 0}
    all_of_them = client.completions.create(**asked, n=3).choices
    best = client.completions.create(**asked, best_of=3)

    def mean(choice: Any) -> float:
        return math.fsum(choice.logprobs.token_logprobs) / len(choice.logprobs.token_logprobs)

    assert best.choices[0].text == max(all_of_them, key=mean).text
    assert [choice.index for choice in best.choices] == [0]
    assert best.usage is not None
    assert (best.usage.prompt_tokens, best.usage.completion_tokens) == (5, 18)


def test_a_plain_completion_has_sixteen_tokens(client: openai.OpenAI) -> None:
    answer = client.completions.create(**{**PLAIN, "prompt": "1 2 3 4 5"}, logit_bias={"2": -100})
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 16


def test_embeddings_are_refused_as_such(client: openai.OpenAI, server: RuntimeProcess) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        client.embeddings.create(model="smollm2", input="x")
    assert refused.value.code == "embeddings_not_supported"
    assert "does not support embeddings" in str(refused.value)
    status, body = server.call("POST", "/v1/embeddings", {"model": "ada", "input": "x"})
    assert (status, body["error"]["code"]) == (404, "model_not_found")
