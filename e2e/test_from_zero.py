"""A real model answers from zero, goes back to zero when idle, and answers again."""

from __future__ import annotations

import asyncio
import json
import subprocess
import time
from pathlib import Path

import pytest
from openai import AsyncOpenAI, OpenAI

from e2e import traffic
from e2e.harness import System, chat, smollm2, trivial, wait_until
from zerotide.api.scalars import parse_time

ROOT = Path(__file__).resolve().parents[1]
QUESTION = "What is the capital of France?"

TGI_CLIENT = """
import json, sys
from text_generation import Client
url, key = sys.argv[1:]
client = Client(url, headers={"Authorization": f"Bearer {key}"}, timeout=120)
prompt = "<|im_start|>user\\n%s<|im_end|>\\n<|im_start|>assistant\\n" % "QUESTION"
plain = client.generate(prompt, max_new_tokens=16)
parts = list(client.generate_stream(prompt, max_new_tokens=16))
streamed = "".join(part.token.text for part in parts if not part.token.special)
print(json.dumps({"plain": plain.generated_text, "streamed": streamed, "reason": plain.details.finish_reason}))
""".replace("QUESTION", QUESTION)


@pytest.fixture(scope="module")
def model(system: System) -> tuple[str, str]:
    """Make a namespace with one sleeping real model and a key; return (namespace, key)."""
    namespace = system.namespace()
    system.endpoint(namespace, "smollm2", smollm2(idle="8s"))
    status = system.wait_state(namespace, "smollm2", "Asleep")
    assert status["replicas"] == 0
    return namespace, system.key(namespace, "tester")


def ask_openai(system: System, namespace: str, key: str) -> OpenAI:
    """Return an unmodified client that never retries."""
    return OpenAI(base_url=system.url(namespace, "smollm2", "/v1"), api_key=key, max_retries=0)


def streamed_text(client: OpenAI) -> str:
    """Ask with a stream and return the text of its chunks."""
    stream = client.chat.completions.create(
        model="smollm2",
        messages=[{"role": "user", "content": QUESTION}],
        temperature=0,
        max_tokens=16,
        stream=True,
    )
    return "".join(chunk.choices[0].delta.content or "" for chunk in stream)


def test_a_sleeping_model_answers_and_sleeps_again(system: System, model: tuple[str, str]) -> None:
    """From zero: streamed and not, no retry; zero comes after the idle timeout and not before; twice."""
    namespace, key = model
    for _ in range(2):
        client = ask_openai(system, namespace, key)
        cold = client.chat.completions.create(
            model="smollm2", messages=[{"role": "user", "content": QUESTION}], temperature=0, max_tokens=16
        )
        assert cold.choices[0].message.content == "The capital of France is Paris."
        streamed = streamed_text(client)
        last = time.time()
        assert streamed == "The capital of France is Paris."
        status = system.wait_state(namespace, "smollm2", "Asleep", timeout=40)
        decision = status["lastDecision"]
        slept = parse_time(decision["time"]) / 1e6
        assert decision["to"] == 0 and slept - last >= 7.5, decision
        assert slept - last <= 8 + 3.0, "zero is reached soon after the deadline"
        wake = status["lastWake"]
        assert {stage["name"] for stage in wake["stages"]} <= {"provision", "pull", "load", "init", "firstByte"}
        wait_until("no pod is left", lambda: not system.pods(namespace, "smollm2"), timeout=40)


def test_the_text_generation_client_gets_its_answer(system: System, model: tuple[str, str]) -> None:
    """The TGI client, unmodified, in an environment of its own, wakes the same model."""
    namespace, key = model
    command = [str(ROOT / ".venv-tgi/bin/python"), "-c", TGI_CLIENT, system.url(namespace, "smollm2"), key]
    done = subprocess.run(command, capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout.splitlines()[-1])
    assert answer["plain"] == answer["streamed"] == "The capital of France is Paris."
    assert answer["reason"] in ("eos_token", "FinishReason.EndOfSequenceToken")


async def test_both_protocols_at_once_from_zero(system: System, model: tuple[str, str]) -> None:
    """One wake serves an OpenAI and a TGI request that arrive together."""
    namespace, key = model
    system.wait_state(namespace, "smollm2", "Asleep", timeout=60)
    async with AsyncOpenAI(base_url=system.url(namespace, "smollm2", "/v1"), api_key=key, max_retries=0) as client:
        asked = client.chat.completions.create(
            model="smollm2", messages=[{"role": "user", "content": QUESTION}], temperature=0, max_tokens=16
        )
        prompt = f"<|im_start|>user\n{QUESTION}<|im_end|>\n<|im_start|>assistant\n"
        body = {"inputs": prompt, "parameters": {"max_new_tokens": 16}}
        generated = traffic.once(system.url(namespace, "smollm2", "/generate"), key, body)
        answer, other = await asyncio.gather(asked, generated)
    assert answer.choices[0].message.content == "The capital of France is Paris."
    assert other.status == 200 and json.loads(other.body)["generated_text"] == "The capital of France is Paris."


async def test_a_request_is_served_while_the_last_pod_terminates(system: System) -> None:
    """The pod takes its time to end; a request that comes then wakes a new one."""
    namespace = system.namespace()
    key = system.key(namespace, "k")
    system.endpoint(namespace, "slowend", trivial(idle="5s", env={"SHUTDOWN_MS": "15000"}))
    url = system.url(namespace, "slowend", "/v1/chat/completions")
    assert (await traffic.once(url, key, chat())).status == 200
    first = system.pods(namespace, "slowend")[0]["metadata"]["uid"]

    def ending() -> bool:
        return any(pod["metadata"].get("deletionTimestamp") for pod in system.pods(namespace, "slowend"))

    await asyncio.to_thread(wait_until, "the pod terminates", ending, 30)
    answer = await traffic.once(url, key, chat(), timeout=60)
    assert answer.status == 200, answer
    uids = {pod["metadata"]["uid"] for pod in system.pods(namespace, "slowend")}
    assert first in uids and len(uids) == 2, "the old pod still ends while the new one serves"
