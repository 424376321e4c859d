"""The clients of the TGI world, unmodified, against a real server."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import InferenceClient, TextGenerationInputGrammarType
from huggingface_hub.errors import ValidationError

from tests.runtime.process import RuntimeProcess

ROOT = Path(__file__).resolve().parents[2]
PROMPT = "The capital of France is"
QUESTION = [{"role": "user", "content": "What is the capital of France?"}]


def test_inference_client_generates(server: RuntimeProcess) -> None:
    client = InferenceClient(model=server.url)
    # Plain requests go to the root, which returns the prompt too unless it is told not to, as TGI does.
    assert client.text_generation(PROMPT, max_new_tokens=2) == PROMPT + " Paris."
    assert client.text_generation(PROMPT, max_new_tokens=2, return_full_text=False) == " Paris."
    answer = client.text_generation(PROMPT, max_new_tokens=2, details=True, stop=["."], return_full_text=False)
    assert answer.generated_text == " Paris."
    assert answer.details is not None
    assert (answer.details.finish_reason, answer.details.generated_tokens) == ("length", 2)


def test_inference_client_streams(server: RuntimeProcess) -> None:
    client = InferenceClient(model=server.url)
    assert list(client.text_generation(PROMPT, max_new_tokens=3, stream=True)) == [" Paris", ".", "\n"]
    *_, last = client.text_generation(PROMPT, max_new_tokens=3, stream=True, details=True, return_full_text=False)
    assert last.generated_text == " Paris.\n"
    assert last.details is not None
    assert last.details.input_length == 5


def test_inference_client_chats(server: RuntimeProcess) -> None:
    client = InferenceClient(base_url=server.url)
    answer = client.chat_completion(QUESTION, temperature=0.0)
    assert answer.choices[0].message.content == "The capital of France is Paris."
    chunks = client.chat_completion(QUESTION, temperature=0.0, stream=True)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "The capital of France is Paris."


def test_inference_client_asks_for_more(server: RuntimeProcess) -> None:
    client = InferenceClient(model=server.url)
    grammar = TextGenerationInputGrammarType(type="regex", value="[0-9]{4}")
    digits = client.text_generation(PROMPT, max_new_tokens=20, grammar=grammar, return_full_text=False)
    assert len(digits) == 4
    assert digits.isdecimal()
    answer = client.text_generation(PROMPT, max_new_tokens=2, details=True, top_n_tokens=2, truncate=3)
    assert answer.details is not None
    assert answer.details.top_tokens is not None
    assert [len(tokens) for tokens in answer.details.top_tokens] == [2, 2]
    with pytest.raises(ValidationError, match=r"`top_n_tokens` must be >= 0 and <= 5\. Given: 6"):
        client.text_generation(PROMPT, top_n_tokens=6)


def test_inference_client_calls_functions_and_reads_odds(server: RuntimeProcess) -> None:
    client = InferenceClient(base_url=server.url)
    function = {"name": "visit", "parameters": {"type": "object", "properties": {"city": {"enum": ["Paris"]}}}}
    tools: Any = [{"type": "function", "function": function}]
    answer = client.chat_completion(QUESTION, temperature=0.0, max_tokens=60, tools=tools, tool_choice="required")
    assert answer.choices[0].message.tool_calls is not None
    assert answer.choices[0].message.tool_calls[0].function.name == "visit"
    told = client.chat_completion(QUESTION, temperature=0.0, max_tokens=2, logprobs=True, top_logprobs=2)
    assert told.choices[0].logprobs is not None
    assert [entry.token for entry in told.choices[0].logprobs.content] == ["The", " capital"]


def test_text_generation_client(server: RuntimeProcess) -> None:
    # It needs an environment of its own: it is held to huggingface-hub before 1.0.
    script = Path(__file__).with_name("tgi_client_script.py")
    python = ROOT / ".venv-tgi" / "bin" / "python"
    done = subprocess.run([python, script, server.url], capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["text"] == said["async_text"] == " Paris."
    assert (said["finish_reason"], said["generated_tokens"], said["seed"]) == ("length", 2, None)
    assert said["tokens"] == [" Paris", "."]
    assert said["pieces"] == [" Paris", ".", "\n"]
    assert said["streamed"] == " Paris.\n"
    assert said["sampled_seed"] == 5
    assert said["chat"] == "The capital of France is Paris."
    others, places, tops, tokens = said["best_of"]
    assert (others, places, tops) == (1, tokens, 2)
    assert 1 <= tokens <= 4  # fewer than asked for where the model ends by itself; TGI takes no seed here
    assert said["stopped"] == [" Paris.", "stop_sequence", []]
    assert len(said["digits"]) == 4
    assert said["digits"].isdecimal()
    assert said["streamed_tops"][0] == "."
    assert len(said["streamed_tops"]) == 3
    assert said["called"] == "visit"
    too_many, too_much, broken = said["errors"]
    assert too_many.startswith("ValidationError: Input validation error: `inputs` tokens + `max_new_tokens`")
    assert too_much == "ValidationError: Input validation error: `best_of` must be > 0 and <= 2. Given: 3"
    assert broken.startswith("ValidationError: Input validation error: grammar is not valid: ")
