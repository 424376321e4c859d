"""The clients of the TGI world, unmodified, against a real server."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from huggingface_hub import InferenceClient

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


def test_text_generation_client(server: RuntimeProcess) -> None:
    # It needs an environment of its own: it is held to huggingface-hub before 1.0.
    script = Path(__file__).with_name("tgi_client_script.py")
    python = ROOT / ".venv-tgi" / "bin" / "python"
    done = subprocess.run([python, script, server.url], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["text"] == said["async_text"] == " Paris."
    assert (said["finish_reason"], said["generated_tokens"], said["seed"]) == ("length", 2, None)
    assert said["tokens"] == [" Paris", "."]
    assert said["pieces"] == [" Paris", ".", "\n"]
    assert said["streamed"] == " Paris.\n"
    assert said["sampled_seed"] == 5
    assert said["chat"] == "The capital of France is Paris."
    assert said["error"].startswith("ValidationError: Input validation error: `inputs` tokens + `max_new_tokens`")
