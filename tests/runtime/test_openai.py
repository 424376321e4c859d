"""OpenAI's protocol against a real server: the openai client, and the rows that no client shows."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest

from tests.runtime.process import RuntimeProcess

QUESTION: list[Any] = [{"role": "user", "content": "What is the capital of France?"}]
ANSWER = "The capital of France is Paris."
GREEDY: dict[str, Any] = {"model": "smollm2", "messages": QUESTION, "temperature": 0}


@pytest.fixture
def client(server: RuntimeProcess) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as made:
        yield made


def test_chat(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(**GREEDY)
    assert answer.id.startswith("chatcmpl-")
    assert (answer.object, answer.model) == ("chat.completion", "smollm2")
    assert answer.system_fingerprint
    (choice,) = answer.choices
    assert (choice.message.role, choice.message.content, choice.finish_reason) == ("assistant", ANSWER, "stop")
    assert choice.logprobs is None
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens) == (37, 8, 45)


def test_chat_streamed(client: openai.OpenAI) -> None:
    chunks = list(client.chat.completions.create(**GREEDY, stream=True, stream_options={"include_usage": True}))
    assert len({chunk.id for chunk in chunks}) == 1
    assert {chunk.object for chunk in chunks} == {"chat.completion.chunk"}
    *deltas, last = chunks
    first = deltas[0].choices[0].delta
    assert (first.role, first.content) == ("assistant", "")
    assert "".join(chunk.choices[0].delta.content or "" for chunk in deltas) == ANSWER
    assert [chunk.choices[0].finish_reason for chunk in deltas] == [None] * (len(deltas) - 1) + ["stop"]
    assert deltas[-1].choices[0].delta.content is None
    assert all(chunk.usage is None for chunk in deltas)
    assert last.choices == []
    assert last.usage is not None
    assert last.usage.total_tokens == 45


def test_usage_is_only_streamed_when_asked_for(client: openai.OpenAI) -> None:
    chunks = list(client.chat.completions.create(**GREEDY, stream=True))
    assert all(chunk.choices and chunk.usage is None for chunk in chunks)


def test_the_length_ends_an_answer(client: openai.OpenAI) -> None:
    for name in ("max_tokens", "max_completion_tokens"):
        (choice,) = client.chat.completions.create(**{**GREEDY, name: 3}).choices
        assert (choice.message.content, choice.finish_reason) == ("The capital of", "length")


@pytest.mark.parametrize(
    ("stop", "text"), [(" is", "The capital of France"), (["Par", "x"], "The capital of France is ")]
)
def test_a_stop_string_ends_the_answer_and_is_not_part_of_it(client: openai.OpenAI, stop: Any, text: str) -> None:
    (choice,) = client.chat.completions.create(**GREEDY, stop=stop).choices
    assert (choice.message.content, choice.finish_reason) == (text, "stop")
    chunks = client.chat.completions.create(**GREEDY, stop=stop, stream=True)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == text


def test_several_answers_have_seeds_of_their_own(client: openai.OpenAI) -> None:
    asked: dict[str, Any] = {**GREEDY, "temperature": 1.5, "seed": 7, "n": 3, "max_tokens": 8}
    texts = [choice.message.content for choice in client.chat.completions.create(**asked).choices]
    assert len(set(texts)) == 3
    again = client.chat.completions.create(**asked)
    assert [choice.message.content for choice in again.choices] == texts, "one seed, one answer"
    assert again.usage is not None
    assert again.usage.completion_tokens <= 24
    streamed = ["", "", ""]
    for chunk in client.chat.completions.create(**asked, stream=True):
        streamed[chunk.choices[0].index] += chunk.choices[0].delta.content or ""
    assert streamed == texts


def test_contents_may_come_in_parts_and_from_a_developer(client: openai.OpenAI) -> None:
    parts = [{"type": "text", "text": "What is the capital"}, {"type": "text", "text": " of France?"}]
    messages: Any = [{"role": "developer", "content": "Be brief."}, {"role": "user", "content": parts}]
    answer = client.chat.completions.create(model="smollm2", messages=messages, temperature=0, max_tokens=20)
    assert "Paris" in (answer.choices[0].message.content or "")


def test_penalties_change_the_answer(client: openai.OpenAI) -> None:
    plain = client.completions.create(
        model="smollm2", prompt="la la la la la la la la la la", temperature=0, max_tokens=8
    )
    asked: dict[str, Any] = {"frequency_penalty": 2.0, "presence_penalty": 2.0}
    penalised = client.completions.create(
        model="smollm2", prompt="la la la la la la la la la la", temperature=0, max_tokens=8, **asked
    )
    assert plain.choices[0].text != penalised.choices[0].text


def test_plain_completion(client: openai.OpenAI) -> None:
    answer = client.completions.create(model="smollm2", prompt="The capital of France is", temperature=0, max_tokens=2)
    assert answer.id.startswith("cmpl-")
    assert (answer.object, answer.choices[0].text, answer.choices[0].finish_reason) == (
        "text_completion",
        " Paris.",
        "length",
    )


def test_plain_completion_streamed(client: openai.OpenAI) -> None:
    chunks = client.completions.create(
        model="smollm2", prompt="The capital of France is", temperature=0, max_tokens=2, stream=True
    )
    assert [(chunk.choices[0].text, chunk.choices[0].finish_reason) for chunk in chunks] == [
        (" Paris", None),
        (".", None),
        ("", "length"),
    ]


def test_several_prompts_and_tokens(client: openai.OpenAI) -> None:
    asked: dict[str, Any] = {"model": "smollm2", "temperature": 0, "max_tokens": 1}
    answer = client.completions.create(prompt=["The capital of France is", "The capital of Italy is"], n=2, **asked)
    assert [(choice.index, choice.text) for choice in answer.choices] == [
        (0, " Paris"),
        (1, " Paris"),
        (2, " Rome"),
        (3, " Rome"),
    ]
    tokens = client.completions.create(prompt=[504, 3575, 282, 4649, 314], **asked)
    assert tokens.usage is not None
    assert tokens.usage.prompt_tokens == 5
    lists = client.completions.create(prompt=[[504, 3575, 282, 4649, 314], [504, 3575, 282]], **asked)
    assert [choice.index for choice in lists.choices] == [0, 1]
    assert lists.choices[0].text == tokens.choices[0].text == " Paris"
    assert lists.usage is not None
    assert lists.usage.prompt_tokens == 8


def test_models(client: openai.OpenAI) -> None:
    (model,) = client.models.list().data
    assert (model.id, model.object, model.owned_by) == ("smollm2", "model", "zerotide")
    assert client.models.retrieve("HuggingFaceTB/SmolLM2-135M-Instruct").object == "model"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("gpt-5")


@pytest.mark.parametrize("name", ["HuggingFaceTB/SmolLM2-135M-Instruct", "demo/smollm2", "tgi"])
def test_other_names_of_the_model(client: openai.OpenAI, name: str) -> None:
    answer = client.chat.completions.create(**{**GREEDY, "model": name, "max_tokens": 1})
    assert answer.model == name


def test_another_model_is_not_found(server: RuntimeProcess) -> None:
    status, body = server.call("POST", "/v1/chat/completions", {**GREEDY, "model": "gpt-5"})
    assert status == 404
    assert body == {
        "error": {
            "message": "The model `gpt-5` does not exist on this server.",
            "type": "invalid_request_error",
            "param": "model",
            "code": "model_not_found",
        }
    }


BAD_CHATS = [
    ({"messages": []}, "messages", "at least one message"),
    ({"messages": "hi"}, "messages", "must be a list"),
    ({"messages": ["hi"]}, "messages[0]", "must be an object"),
    ({"messages": [{"role": "robot", "content": "x"}]}, "messages[0].role", "must be one of"),
    ({"messages": [{"role": "user", "content": None}]}, "messages[0].content", "must be a string"),
    ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages[0].content", "type text"),
    ({"messages": [{"role": "user", "content": "\ud800"}]}, None, "surrogate"),
    ({"model": None}, "model", "must provide"),
    ({"temperature": 2.1}, "temperature", "between 0 and 2"),
    ({"temperature": "hot"}, "temperature", "must be a number"),
    ({"top_p": 1.5}, "top_p", "between 0 and 1"),
    ({"frequency_penalty": -3}, "frequency_penalty", "between -2 and 2"),
    ({"presence_penalty": 3}, "presence_penalty", "between -2 and 2"),
    ({"max_tokens": 0}, "max_tokens", "at least 1"),
    ({"max_completion_tokens": 1.5}, "max_completion_tokens", "must be an integer"),
    ({"n": 0}, "n", "between 1 and"),
    ({"stop": ["a"] * 5}, "stop", "at most 4"),
    ({"stop": 7}, "stop", "list of strings"),
    ({"seed": "x"}, "seed", "must be an integer"),
    ({"messages": [{"role": "assistant", "tool_calls": [{}]}]}, "messages[0].tool_calls", "by name"),
    ({"messages": [{"role": "assistant", "tool_calls": "x"}]}, "messages[0].tool_calls", "must be a list"),
    ({"stream": "yes"}, "stream", "true or false"),
    ({"stream_options": {"include_usage": True}}, "stream_options", "only allowed when"),
    ({"functions": [{"name": "f"}]}, "functions", "not supported"),
    ({"modalities": ["audio"]}, "modalities", "not supported"),
    ({"echo": True}, "echo", "not supported"),
    ({"logprobs": 2}, "logprobs", "true or false"),
    ({"top_logprobs": 3}, "top_logprobs", "only allowed when `logprobs` is true"),
    ({"logprobs": True, "top_logprobs": 21}, "top_logprobs", "between 0 and 20"),
    ({"logit_bias": {"x": 1}}, "logit_bias", "token ids as its keys"),
    ({"logit_bias": {"5": 101}}, "logit_bias", "between -100 and 100"),
    ({"logit_bias": {"49152": 1}}, "logit_bias", "the vocabulary has 49152"),
    ({"response_format": {"type": "xml"}}, "response_format.type", "must be text, json_object or json_schema"),
    ({"response_format": {"type": "json_schema"}}, "response_format.json_schema", "is missing"),
    ({"response_format": {"type": "json_schema", "json_schema": {}}}, "response_format.json_schema.name", "1 to 64"),
]


@pytest.mark.parametrize(("change", "param", "said"), BAD_CHATS)
def test_bad_parameters_are_named(server: RuntimeProcess, change: dict[str, Any], param: str | None, said: str) -> None:
    status, body = server.call("POST", "/v1/chat/completions", {**GREEDY, **change})
    error = body["error"]
    assert (status, error["type"], error["param"]) == (400, "invalid_request_error", param)
    assert said in error["message"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"prompt": None}, "must be a string"),
        ({"prompt": [[]]}, "must be a string"),
        ({"prompt": ""}, "must not be empty"),
        ({"prompt": [1, 99999]}, "outside the vocabulary"),
        ({"prompt": [True]}, "must be a string"),
        ({"suffix": "x"}, "`suffix` is not supported"),
        ({"tools": [{}]}, "`tools` is not supported"),
        ({"logprobs": 6}, "between 0 and 5"),
        ({"best_of": 1, "n": 2}, "must not be less than `n`"),
        ({"best_of": 2, "stream": True}, "cannot be streamed"),
        ({"max_tokens": 0}, "at least 1"),
        ({"prompt": ["x"] * 513, "n": 2}, "at most 1024 answers; this one asks for 1026"),
    ],
)
def test_bad_completions_are_named(server: RuntimeProcess, change: dict[str, Any], said: str) -> None:
    status, body = server.call("POST", "/v1/completions", {"model": "smollm2", "prompt": "x", **change})
    assert status == 400
    assert said in body["error"]["message"]


def test_what_asks_for_nothing_is_not_refused(server: RuntimeProcess) -> None:
    harmless = {
        "tools": [],
        "tool_choice": "none",
        "logprobs": False,
        "logit_bias": {},
        "response_format": {"type": "text"},
    }
    unknown = {"user": "me", "metadata": {"a": "b"}, "parallel_tool_calls": True, "stop": None, "n": None, "seed": None}
    status, body = server.call("POST", "/v1/chat/completions", {**GREEDY, **harmless, **unknown, "max_tokens": 1})
    assert (status, body["choices"][0]["message"]["content"]) == (200, "The")


@pytest.mark.parametrize(("tokens", "prompt"), [(None, "a " * 9000), (8190, "a b c")])
def test_too_long_a_request_is_said_to_be(server: RuntimeProcess, tokens: int | None, prompt: str) -> None:
    asked = {"model": "smollm2", "prompt": prompt, "max_tokens": tokens}
    status, body = server.call("POST", "/v1/completions", asked)
    assert (status, body["error"]["code"]) == (400, "context_length_exceeded")
    assert "maximum context length is 8192 tokens" in body["error"]["message"]


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff\xfe", b"[" * 100_000])
def test_what_is_no_json_is_refused_in_json(server: RuntimeProcess, body: bytes) -> None:
    status, answer = server.call("POST", "/v1/chat/completions", body)
    assert (status, answer["error"]["type"]) == (400, "invalid_request_error")


def test_unknown_routes_and_methods(server: RuntimeProcess) -> None:
    status, body = server.call("POST", "/v1/audio/speech", {})
    assert (status, body["error"]["code"]) == (404, "route_not_found")
    with server.send("GET", "/v1/chat/completions") as response:
        assert (response.status, response.headers["allow"]) == (405, "POST")
        assert "takes POST" in json.loads(response.read())["error"]["message"]
