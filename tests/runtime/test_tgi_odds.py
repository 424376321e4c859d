"""TGI's parameters that tell of the odds or change them: best_of, top_n_tokens, prefill, typical_p, watermark."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.runtime.process import RuntimeProcess, folder_uri

from .test_tgi import PROMPT, events, generate


def test_the_likeliest_tokens_beside_each(server: RuntimeProcess) -> None:
    details = generate(server, max_new_tokens=2, details=True, top_n_tokens=3)["details"]
    assert [len(tokens) for tokens in details["top_tokens"]] == [3, 3]
    for token, tokens in zip(details["tokens"], details["top_tokens"], strict=True):
        assert tokens[0] == token, "greedy takes the likeliest"
        assert [t["logprob"] for t in tokens] == sorted((t["logprob"] for t in tokens), reverse=True)
    (first, _) = events(server, "/generate_stream", inputs=PROMPT, parameters={"max_new_tokens": 2, "top_n_tokens": 3})
    assert first["top_tokens"] == details["top_tokens"][0]


def test_the_best_of_two(server: RuntimeProcess) -> None:
    details = generate(server, max_new_tokens=6, details=True, do_sample=True, temperature=1.8, best_of=2)["details"]
    (other,) = details["best_of_sequences"]
    assert other.keys() == {"generated_text", "finish_reason", "generated_tokens", "seed", "prefill", "tokens"}
    assert other["seed"] != details["seed"]

    def mean(tokens: list[dict[str, Any]]) -> float:
        return sum(float(token["logprob"]) for token in tokens) / len(tokens)

    assert mean(details["tokens"]) >= mean(other["tokens"])
    asked: dict[str, Any] = {"max_new_tokens": 6, "details": True, "temperature": 1.8, "seed": other["seed"]}
    again = generate(server, **asked)
    assert again["generated_text"] == other["generated_text"], "each answer tells its own seed"


def test_the_prompts_odds_are_told_by_servers_that_may(published: Path, server: RuntimeProcess) -> None:
    asked: dict[str, Any] = {"max_new_tokens": 1, "decoder_input_details": True}
    assert generate(server, **asked)["details"]["prefill"] == []
    flags = ("--prefill-logprobs", "true", "--max-best-of", "3", "--grammars", "false", "--api-key", "Secret")
    with RuntimeProcess(folder_uri(published), *flags) as process:
        process.ready()
        with process.send("POST", "/generate", {"inputs": PROMPT}) as response:
            assert (response.status, response.read()) == (401, b"")
        status, body = process.call("POST", "/v1/chat/completions", {})
        assert (status, body["error"]["code"]) == (401, "invalid_api_key")
        assert process.call("POST", "/chat_tokenize", {})[0] == 422, "this route needs no key"
        assert process.call("GET", "/info")[1]["max_best_of"] == 3

        process.headers["Authorization"] = "bearer sECRET"
        details = generate(process, **asked, details=True)["details"]
        assert [token["text"] for token in details["prefill"]] == ["The", " capital", " of", " France", " is"]
        assert details["prefill"][0] == {"id": 504, "text": "The", "logprob": None}
        assert all(-12 < token["logprob"] < 0 for token in details["prefill"][1:])
        assert generate(process, max_new_tokens=1, details=True)["details"]["prefill"] == [], "nobody asked"
        grammar = {"type": "regex", "value": "a"}
        status, body = process.call("POST", "/generate", {"inputs": "x", "parameters": {"grammar": grammar}})
        assert (status, body["error"]) == (422, "Input validation error: grammar is not supported")


@pytest.mark.parametrize("parameters", [{"typical_p": 0.5, "seed": 1}, {"watermark": True}])
def test_what_else_changes_the_odds(server: RuntimeProcess, parameters: dict[str, Any]) -> None:
    answer = generate(server, max_new_tokens=6, **parameters)
    assert answer == generate(server, max_new_tokens=6, **parameters)
    assert answer != generate(server, max_new_tokens=6)
