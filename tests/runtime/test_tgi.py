"""TGI's protocol against a real server: exact messages, details, streams and headers."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.runtime.process import RuntimeProcess
from zerotide_runtime.server.tgi_params import read_parameters

PROMPT = "The capital of France is"


def generate(server: RuntimeProcess, path: str = "/generate", inputs: str = PROMPT, **parameters: Any) -> Any:
    status, body = server.call("POST", path, {"inputs": inputs, "parameters": parameters})
    assert status == 200, body
    return body


def test_the_text_alone(server: RuntimeProcess) -> None:
    assert generate(server, max_new_tokens=2) == {"generated_text": " Paris."}


def test_the_root_answers_with_a_list_and_the_whole_text(server: RuntimeProcess) -> None:
    assert generate(server, "/", max_new_tokens=2) == [{"generated_text": PROMPT + " Paris."}]
    assert generate(server, "/", max_new_tokens=2, return_full_text=False) == [{"generated_text": " Paris."}]


def test_details(server: RuntimeProcess) -> None:
    body = generate(server, max_new_tokens=2, details=True, decoder_input_details=True)
    details = body["details"]
    assert details.keys() == {"finish_reason", "generated_tokens", "seed", "prefill", "tokens"}
    assert (details["finish_reason"], details["generated_tokens"], details["seed"]) == ("length", 2, None)
    assert details["prefill"] == []
    assert [(token["id"], token["text"], token["special"]) for token in details["tokens"]] == [
        (7042, " Paris", False),
        (30, ".", False),
    ]
    assert all(-1 < token["logprob"] < 0 for token in details["tokens"])


def test_an_end_token_is_counted_and_listed_but_not_part_of_the_text(server: RuntimeProcess) -> None:
    prompt = "<|im_start|>user\nWhat is the capital of France?<|im_end|>\n<|im_start|>assistant\n"
    body = generate(server, inputs=prompt, max_new_tokens=20, details=True)
    assert body["details"]["finish_reason"] == "eos_token"
    assert body["details"]["generated_tokens"] == len(body["details"]["tokens"])
    last = body["details"]["tokens"][-1]
    assert (last["text"], last["special"]) == ("<|im_end|>", True)
    visible = [token["text"] for token in body["details"]["tokens"] if not token["special"]]
    assert "".join(visible) == body["generated_text"]
    count = body["details"]["generated_tokens"]
    at_the_end = generate(server, inputs=prompt, max_new_tokens=count, details=True)
    assert at_the_end["details"]["finish_reason"] == "length", "the length is checked first"


def test_a_stop_string_stays_in_the_text(server: RuntimeProcess) -> None:
    body = generate(server, max_new_tokens=20, details=True, stop=["x", "."])
    assert (body["generated_text"], body["details"]["finish_reason"]) == (" Paris.", "stop_sequence")


def test_sampling_tells_its_seed(server: RuntimeProcess) -> None:
    first = generate(server, max_new_tokens=6, details=True, do_sample=True, temperature=1.5, seed=3)
    assert first["details"]["seed"] == 3
    assert generate(server, max_new_tokens=6, details=True, temperature=1.5, seed=3) == first
    unseeded = generate(server, max_new_tokens=1, details=True, top_k=5)
    assert isinstance(unseeded["details"]["seed"], int)


@pytest.mark.parametrize(
    ("parameters", "greedy"),
    [
        (None, False),
        ({}, True),
        ({"do_sample": True}, False),
        ({"temperature": 1.0}, True),
        ({"temperature": 0.7}, False),
        ({"top_k": 3}, False),
        ({"top_p": 0.5}, False),
        ({"repetition_penalty": 1.2, "seed": 4}, True),
    ],
)
def test_when_it_samples(parameters: dict[str, Any] | None, greedy: bool) -> None:
    content = {"inputs": "x", "parameters": parameters}
    read = read_parameters(content, stream=False, full_text=False, random_seed=lambda: 11)
    assert read.sampling.greedy is greedy
    assert read.seed == (None if greedy else 11)


def test_truncation_keeps_the_end_of_the_prompt(server: RuntimeProcess) -> None:
    whole = generate(server, max_new_tokens=3, inputs="Nothing to see. Nothing to see. " + PROMPT, truncate=5)
    assert whole == generate(server, max_new_tokens=3)


def events(server: RuntimeProcess, path: str, **content: Any) -> list[dict[str, Any]]:
    with server.send("POST", path, content) as response:
        assert response.status == 200
        assert response.headers["content-type"] == "text/event-stream"
        assert (response.headers["cache-control"], response.headers["x-accel-buffering"]) == ("no-cache", "no")
        assert response.headers["x-compute-type"] == "cpu"
        blocks = response.read().decode().split("\n\n")
    assert blocks[-1] == ""
    assert all(block.startswith("data:{") for block in blocks[:-1])
    return [json.loads(block.removeprefix("data:")) for block in blocks[:-1]]


@pytest.mark.parametrize(("path", "extra"), [("/generate_stream", {}), ("/", {"stream": True})])
def test_streams(server: RuntimeProcess, path: str, extra: dict[str, Any]) -> None:
    parameters = {"max_new_tokens": 3, "details": True, "return_full_text": False}
    first, second, last = events(server, path, inputs=PROMPT, parameters=parameters, **extra)
    assert (first["index"], second["index"], last["index"]) == (1, 2, 3)
    assert (first["token"]["id"], first["token"]["text"]) == (7042, " Paris")
    assert (first["generated_text"], first["details"]) == (None, None)
    assert last["generated_text"] == " Paris.\n"
    assert last["details"] == {"finish_reason": "length", "generated_tokens": 3, "seed": None, "input_length": 5}


def test_a_stream_without_details_has_none(server: RuntimeProcess) -> None:
    (only,) = events(server, "/generate_stream", inputs=PROMPT, parameters={"max_new_tokens": 1})
    assert (only["generated_text"], only["details"]) == (" Paris", None)


def test_a_character_of_several_tokens_comes_whole(server: RuntimeProcess) -> None:
    chunks = events(server, "/generate_stream", inputs="🎉🎉🎉🎉🎉🎉🎉🎉", parameters={"max_new_tokens": 12})
    assert "".join(chunk["token"]["text"] for chunk in chunks) == chunks[-1]["generated_text"]
    assert not any("\ufffd" in chunk["token"]["text"] for chunk in chunks[:-1])


def test_headers_tell_the_times(server: RuntimeProcess) -> None:
    with server.send("POST", "/generate", {"inputs": PROMPT, "parameters": {"max_new_tokens": 2}}) as response:
        headers = response.headers
        response.read()
    assert (headers["x-compute-type"], headers["x-compute-characters"]) == ("cpu", "24")
    assert (headers["x-prompt-tokens"], headers["x-generated-tokens"]) == ("5", "2")
    assert float(headers["x-compute-time"]) > 0
    for name in ("x-total-time", "x-validation-time", "x-queue-time", "x-inference-time", "x-time-per-token"):
        assert headers[name].isdecimal()


MESSAGES = [
    ({"max_new_tokens": 0}, "`max_new_tokens` must be strictly positive"),
    ({"temperature": 0}, "`temperature` must be strictly positive"),
    ({"temperature": -1.0}, "`temperature` must be strictly positive"),
    ({"top_k": 0}, "`top_k` must be strictly positive"),
    ({"top_p": 0}, "`top_p` must be > 0.0 and < 1.0"),
    ({"top_p": 1.0}, "`top_p` must be > 0.0 and < 1.0"),
    ({"typical_p": 1.0}, "`typical_p` must be > 0.0 and < 1.0"),
    ({"repetition_penalty": 0}, "`repetition_penalty` must be strictly positive"),
    ({"frequency_penalty": 2.5}, "`frequency_penalty` must be >= -2.0 and <= 2.0"),
    ({"best_of": 3}, "`best_of` must be > 0 and <= 2. Given: 3"),
    ({"best_of": 2}, "you must use sampling when `best_of` is > 1"),
    ({"best_of": 2, "do_sample": True, "seed": 1}, "`seed` must not be set when `best_of` > 1"),
    ({"stop": ["a"] * 5}, "`stop` supports up to 4 stop sequences. Given: 5"),
    ({"truncate": 0}, "`truncate` must be strictly positive and less than 8191. Given: 0"),
    ({"truncate": 9000}, "`truncate` must be strictly positive and less than 8191. Given: 9000"),
    ({"top_n_tokens": 6}, "`top_n_tokens` must be >= 0 and <= 5. Given: 6"),
    ({"adapter_id": "x"}, "`adapter_id` is not supported by this server"),
    ({"do_sample": "yes"}, "`do_sample` must be true or false"),
    ({"seed": "yes"}, "`seed` must be an integer"),
    ({"stop": "."}, "`stop` must be a list of strings"),
    (
        {"max_new_tokens": 8190},
        "`inputs` tokens + `max_new_tokens` must be <= 8192. Given: 5 `inputs` tokens and 8190 `max_new_tokens`",
    ),
]


@pytest.mark.parametrize(("parameters", "message"), MESSAGES)
def test_validation_messages(server: RuntimeProcess, parameters: dict[str, Any], message: str) -> None:
    for path in ("/generate", "/generate_stream", "/"):
        status, body = server.call("POST", path, {"inputs": PROMPT, "parameters": parameters})
        assert (status, body) == (422, {"error": f"Input validation error: {message}", "error_type": "validation"})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"inputs": ""}, "`inputs` cannot be empty"),
        ({}, "`inputs` must be a string"),
        ({"inputs": ["a"]}, "`inputs` must be a string"),
        ({"inputs": "x", "parameters": []}, "`parameters` must be an object"),
        ({"inputs": "a " * 9000}, "`inputs` must have less than 8191 tokens. Given: 9001"),
        ([], "the request's body must be a JSON object"),
    ],
)
def test_inputs_are_checked(server: RuntimeProcess, content: Any, message: str) -> None:
    status, body = server.call("POST", "/generate", content)
    assert (status, body) == (422, {"error": f"Input validation error: {message}", "error_type": "validation"})


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"decoder_input_details": True}, "`decoder_input_details` == true is not supported when streaming tokens"),
        ({"best_of": 2, "do_sample": True}, "`best_of` != 1 is not supported when streaming tokens"),
    ],
)
def test_streams_have_rules_of_their_own(server: RuntimeProcess, parameters: dict[str, Any], message: str) -> None:
    status, body = server.call("POST", "/generate_stream", {"inputs": "x", "parameters": parameters})
    assert (status, body["error"]) == (422, f"Input validation error: {message}")


def test_unknown_keys_and_nulls_are_ignored(server: RuntimeProcess) -> None:
    nulls: dict[str, Any] = dict.fromkeys(
        ["best_of", "temperature", "top_k", "top_p", "seed", "truncate", "grammar", "stop", "typical_p"]
    )
    assert generate(server, max_new_tokens=1, unknown=1, watermark=False, **nulls) == {"generated_text": " Paris"}


def test_too_large_a_body_is_refused_before_it_is_read(server: RuntimeProcess) -> None:
    status, body = server.call("POST", "/generate", b"x" * 2_000_001)
    assert (status, body["error_type"]) == (413, "validation")


def test_unknown_routes(server: RuntimeProcess) -> None:
    status, body = server.call("POST", "/nothing", {})
    assert (status, body) == (404, {"error": "There is no /nothing here.", "error_type": "route_not_found"})
    assert server.call("GET", "/generate") == (
        405,
        {"error": "/generate takes POST, not GET.", "error_type": "method_not_allowed"},
    )


def test_info(server: RuntimeProcess) -> None:
    status, info = server.call("GET", "/info")
    assert status == 200
    assert info["model_id"] == "smollm2"
    assert info["model_sha"].startswith("sha256:")
    assert (info["max_total_tokens"], info["max_input_tokens"], info["max_concurrent_requests"]) == (8192, 8191, 128)
    assert info.keys() == {
        "model_id",
        "model_sha",
        "model_pipeline_tag",
        "max_concurrent_requests",
        "max_best_of",
        "max_stop_sequences",
        "max_input_tokens",
        "max_total_tokens",
        "validation_workers",
        "max_client_batch_size",
        "router",
        "version",
        "sha",
        "docker_label",
    }


@pytest.mark.parametrize("path", ["/health", "/ping", "/"])
def test_health(server: RuntimeProcess, path: str) -> None:
    assert server.call("GET", path)[0] == 200
    with server.send("HEAD", path) as response:
        assert (response.status, response.read()) == (200, b"")
