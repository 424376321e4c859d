"""TGI's routes that do not generate, or under other names: tokens, clouds, the list of routes."""

from __future__ import annotations

from typing import Any

import pytest

from tests.runtime.process import RuntimeProcess

from .test_tgi import PROMPT

QUESTION = [{"role": "user", "content": "What is the capital of France?"}]
ANSWER = "The capital of France is Paris."


def test_tokenize(server: RuntimeProcess) -> None:
    status, tokens = server.call("POST", "/tokenize", {"inputs": "The café"})
    assert status == 200
    assert tokens[0] == {"id": 504, "text": "The", "start": 0, "stop": 3}
    assert "".join(token["text"] for token in tokens) == "The café"
    last = {"inputs": "The café", "parameters": {"truncate": 1}}
    assert server.call("POST", "/tokenize", last)[1] == tokens[-1:]
    wrong = {"error": "Input validation error: `inputs` cannot be empty", "error_type": "validation"}
    assert server.call("POST", "/tokenize", {"inputs": ""}) == (422, wrong)


def test_chat_tokenize(server: RuntimeProcess) -> None:
    status, body = server.call("POST", "/chat_tokenize", {"messages": QUESTION})
    assert status == 200
    assert body["templated_text"].endswith("<|im_start|>assistant\n")
    assert "".join(token["text"] for token in body["tokenize_response"]) == body["templated_text"]
    assert len(body["tokenize_response"]) == 37
    assert server.call("POST", "/chat_tokenize", {"messages": []})[0] == 422


@pytest.mark.parametrize(
    ("body", "read"),
    [
        ({"inputs": PROMPT, "parameters": {"max_new_tokens": 2}}, lambda b: b[0]["generated_text"]),
        ({"messages": QUESTION, "temperature": 0}, lambda b: b["choices"][0]["message"]["content"]),
        ({"prompt": PROMPT, "max_tokens": 2, "temperature": 0}, lambda b: b["choices"][0]["text"]),
    ],
)
def test_sagemakers_route_goes_by_the_bodys_shape(server: RuntimeProcess, body: dict[str, Any], read: Any) -> None:
    status, answer = server.call("POST", "/invocations", body)
    assert status == 200
    assert "Paris." in read(answer)


def test_sagemakers_route_refuses_other_shapes(server: RuntimeProcess) -> None:
    status, body = server.call("POST", "/invocations", {"input": "x"})
    assert (status, body["error_type"]) == (422, "validation")
    assert "`inputs`, `messages` or `prompt`" in body["error"]


def test_vertex(server: RuntimeProcess) -> None:
    instances = [
        {"inputs": PROMPT, "parameters": {"max_new_tokens": 2, "do_sample": False}},
        {"messages": QUESTION, "temperature": 0},
    ]
    assert server.call("POST", "/vertex", {"instances": instances}) == (200, {"predictions": [" Paris.", ANSWER]})


@pytest.mark.parametrize(
    ("instances", "message"),
    [
        ([], "`instances` must be a list with at least one instance"),
        (["x"], "`instances` may only have objects"),
        ([{"inputs": "x"}, {"inputs": ""}], "`inputs` cannot be empty"),
        ([{"messages": []}], "`messages` must be a list with at least one message"),
    ],
)
def test_vertex_refuses_as_tgi_does(server: RuntimeProcess, instances: list[Any], message: str) -> None:
    status, body = server.call("POST", "/vertex", {"instances": instances})
    assert (status, body) == (422, {"error": f"Input validation error: {message}", "error_type": "validation"})


def test_the_routes_are_listed(server: RuntimeProcess) -> None:
    with server.send("GET", "/docs") as response:
        page = response.read().decode()
    assert {"POST /generate", "POST GET /", "GET /v1/models"} <= set(page.splitlines())
