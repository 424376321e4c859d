"""TGI's protocol at its edges: broken bodies, the whole text, answers without a bound, keys, and silence."""

from __future__ import annotations

import http.client
import json
from pathlib import Path
from typing import Any

import pytest

from tests.runtime.process import RuntimeProcess, folder_uri
from zerotide_runtime.errors import InvalidRequest
from zerotide_runtime.server.tgi_params import Parameters, fit, read_parameters

from .test_tgi import PROMPT, events, generate

GENERATING = ("/generate", "/generate_stream", "/")
GUARDED = (*GENERATING, "/tokenize", "/invocations", "/vertex", "/v1/chat/completions", "/v1/completions")
OPEN = ("/", "/health", "/ping", "/info", "/metrics", "/docs", "/startup", "/v1/models", "/v1/models/tiny")


def read(**parameters: Any) -> Parameters:
    content = {"inputs": "x", "parameters": parameters}
    return read_parameters(content, stream=False, full_text=False, random_seed=lambda: 1)


@pytest.mark.parametrize("path", [*GENERATING, "/tokenize", "/chat_tokenize", "/invocations", "/vertex"])
@pytest.mark.parametrize("body", [b"", b"{", b'"x"', b"[]", b"\xff\xfe", b"[" * 100_000])
def test_what_is_no_json_is_refused_in_json(server: RuntimeProcess, path: str, body: bytes) -> None:
    # TGI says it in plain text, which its own clients cannot read.
    status, answer = server.call("POST", path, body)
    assert (status, answer["error_type"]) == (422, "validation")
    assert answer["error"].startswith("Input validation error: the request's body ")


def test_the_prompt_comes_first_where_the_whole_text_is_asked_for(server: RuntimeProcess) -> None:
    asked: dict[str, Any] = {"max_new_tokens": 2, "return_full_text": True}
    assert generate(server, **asked) == {"generated_text": PROMPT + " Paris."}
    for path in ("/generate_stream", "/"):
        *_, last = events(server, path, inputs=PROMPT, parameters=asked, stream=True)
        assert (last["token"]["text"], last["generated_text"]) == (".", PROMPT + " Paris.")
    details = generate(server, **asked, details=True, do_sample=True, temperature=1.5, best_of=2)["details"]
    assert details["best_of_sequences"][0]["generated_text"].startswith(PROMPT)


def test_an_answer_without_a_bound_may_fill_the_context() -> None:
    assert fit([1, 2, 3], read(), 8192) == ([1, 2, 3], 8189)
    assert fit([1, 2, 3], read(max_new_tokens=None), 4) == ([1, 2, 3], 1)
    assert fit([1, 2, 3], read(max_new_tokens=5, truncate=2), 8) == ([2, 3], 5)
    with pytest.raises(InvalidRequest, match=r"must have less than 3 tokens\. Given: 4"):
        fit([1, 2, 3, 4], read(), 4)


def test_the_length_is_checked_before_a_stop_string(server: RuntimeProcess) -> None:
    asked: dict[str, Any] = {"stop": ["."], "details": True}
    assert generate(server, max_new_tokens=2, **asked)["details"]["finish_reason"] == "length"
    assert generate(server, max_new_tokens=3, **asked)["details"]["finish_reason"] == "stop_sequence"


@pytest.mark.parametrize("count", [0, -1])
def test_there_is_at_least_one_answer(server: RuntimeProcess, count: int) -> None:
    status, body = server.call("POST", "/generate", {"inputs": "x", "parameters": {"best_of": count}})
    said = f"Input validation error: `best_of` must be > 0 and <= 2. Given: {count}"
    assert (status, body) == (422, {"error": said, "error_type": "validation"})


@pytest.mark.parametrize("name", ["top_k", "top_p", "typical_p", "temperature"])
def test_what_shapes_the_odds_means_sampling(name: str) -> None:
    assert not read(**{name: 2 if name == "top_k" else 0.5}).sampling.greedy
    assert read(**{name: None}).sampling.greedy


def test_a_key_guards_what_computes(tiny: Path) -> None:
    with RuntimeProcess(folder_uri(tiny), "--api-key", "Secret", name="tiny") as process:
        process.ready()
        for authorization in ({}, {"Authorization": "Bearer other"}, {"Authorization": "Secret"}):
            process.headers = authorization
            for path in GUARDED:
                with process.send("POST", path, {"inputs": "x"}) as response:
                    assert response.status == 401, path
                    assert (response.read() == b"") is not path.startswith("/v1/"), path
            for path in OPEN:
                with process.send("GET", path) as response:
                    assert (response.status, response.read() != b"") == (200, True), path
        process.headers = {"Authorization": "Bearer secret"}
        assert process.call("POST", "/generate", {"inputs": "x", "parameters": {"max_new_tokens": 1}})[0] == 200


def test_the_largest_body_is_read_and_one_byte_more_is_not(server: RuntimeProcess) -> None:
    empty = json.dumps({"inputs": ""}).encode()
    for path in ("/generate", "/v1/completions"):
        body = empty[:-1] + b" " * (2_000_000 - len(empty)) + empty[-1:]
        assert server.call("POST", path, body)[0] in (400, 422)
        assert server.call("POST", path, body + b" ")[0] == 413


def test_a_stream_has_no_length_and_no_end_mark_of_its_own(server: RuntimeProcess) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=180)
    asked = {"inputs": PROMPT, "parameters": {"max_new_tokens": 2}}
    connection.request("POST", "/generate_stream", json.dumps(asked))
    response = connection.getresponse()
    assert (response.headers["content-length"], response.headers["x-compute-characters"]) == (None, "24")
    assert not {"event:", "[DONE]"} & set(response.read().decode().split())
    connection.close()
