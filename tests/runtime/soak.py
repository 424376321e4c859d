"""Random clients against a server: they join, leave, send long and short prompts, and check every answer.

An answer is right when it is the one that the same request got alone. Where batches round differently, two tokens
of the same odds may change places; so at the first token that differs, both must be as likely.
"""

from __future__ import annotations

import json
import random
import re
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.runtime.process import RuntimeProcess

CLIENTS = 8
AS_LIKELY = 1e-2  # of log-probabilities
IDLE_SECONDS = 60.0


@dataclass(frozen=True)
class Case:
    """A request and what it was answered alone: tokens, and the likeliest two at each place."""

    inputs: str
    parameters: dict[str, Any]
    tokens: list[int]
    likeliest: list[dict[int, float]]

    def check(self, tokens: list[int], *, whole: bool = True) -> None:
        """Raise AssertionError for tokens that cannot be this request's answer, or its beginning."""
        for place, (token, wanted) in enumerate(zip(tokens, self.tokens, strict=False)):
            if token != wanted:
                odds = self.likeliest[place]
                apart = abs(odds[wanted] - odds.get(token, -1e9))
                assert apart < AS_LIKELY, f"token {place} is {token}, not {wanted}: {self.inputs[:40]!r}"
                return
        assert not whole or len(tokens) == len(self.tokens)


def make_cases(server: RuntimeProcess, lengths: list[int], rng: random.Random) -> list[Case]:
    """Ask for answers one by one, to prompts of these many words."""
    words = ["sea", "moon", "tide", "zero", "wave", "ship", "sand", "wind"]
    cases = []
    for length in lengths:
        inputs = " ".join(rng.choice(words) for _ in range(length))
        parameters: dict[str, Any] = {"max_new_tokens": rng.randint(4, 40), "details": True, "top_n_tokens": 2}
        if rng.random() < 0.5:
            parameters["repetition_penalty"] = 1.3
        status, body = server.call("POST", "/generate", {"inputs": inputs, "parameters": parameters})
        assert status == 200, body
        tokens = [token["id"] for token in body["details"]["tokens"]]
        tops = [{token["id"]: token["logprob"] for token in place} for place in body["details"]["top_tokens"]]
        cases.append(Case(inputs, {**parameters, "top_n_tokens": None}, tokens, tops))
    return cases


@dataclass
class Soak:
    """One storm of clients; `done` counts what they did, `faults` holds what went wrong."""

    server: RuntimeProcess
    cases: list[Case]
    done: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)

    def round(self, seed: int, requests: int) -> int:
        """Let all clients send so many requests each; return the server's own memory in bytes once it is idle."""
        threads = [
            threading.Thread(target=self._client, args=(random.Random(seed * CLIENTS + number), requests))
            for number in range(CLIENTS)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not self.faults, self.faults[:3]
        self._until_idle()
        return private_memory(self.server.process.pid)

    def _until_idle(self) -> None:
        """Wait until nothing is in hand, and every request is booked as answered, refused or left."""
        deadline = time.monotonic() + IDLE_SECONDS
        while (books := self._books()) != [0, 0, 0, 0]:
            assert time.monotonic() < deadline, f"running, waiting, committed tokens, unbooked requests: {books}"
            time.sleep(0.02)

    def _books(self) -> list[float]:
        metric = self.server.metric
        ended = metric("tgi_request_success") + sum(self.server.metrics("tgi_request_failure").values())
        unbooked = metric("tgi_request_count") - ended - metric("zerotide_runtime_requests_cancelled")
        in_hand = ("tgi_batch_current_size", "tgi_queue_size", "tgi_batch_current_max_tokens")
        return [*map(metric, in_hand), unbooked]

    def _client(self, rng: random.Random, requests: int) -> None:
        acts = [self._whole, self._whole, self._stream, self._stream, self._leave, self._leave, self._sample, self._bad]
        for _ in range(requests):
            act = rng.choice(acts)
            try:
                act(rng)
                self.done[act.__name__] += 1
            except Exception as error:
                self.faults.append(f"{act.__name__}: {type(error).__name__}: {error}")
                return

    def _whole(self, rng: random.Random) -> None:
        case = rng.choice(self.cases)
        status, body = self.server.call("POST", "/generate", {"inputs": case.inputs, "parameters": case.parameters})
        assert status == 200, body
        case.check([token["id"] for token in body["details"]["tokens"]])

    def _stream(self, rng: random.Random, leave_after: int | None = None) -> None:
        case, tokens = rng.choice(self.cases), []
        asked = {"inputs": case.inputs, "parameters": case.parameters}
        with self.server.send("POST", "/generate_stream", asked) as response:
            assert response.status == 200
            for line in response:
                if line.startswith(b"data:"):
                    tokens.append(json.loads(line[5:])["token"]["id"])
                if len(tokens) == leave_after:
                    response.close()
                    break
        case.check(tokens, whole=leave_after is None)

    def _leave(self, rng: random.Random) -> None:
        self._stream(rng, leave_after=rng.randint(1, 4))

    def _sample(self, rng: random.Random) -> None:
        asked = {
            "model": self.server.name,
            "prompt": rng.choice(self.cases).inputs,
            "max_tokens": rng.randint(1, 12),
            "n": 2,
            "logprobs": 1,
        }
        status, body = self.server.call("POST", "/v1/completions", asked)
        assert (status, len(body.get("choices", []))) == (200, 2), body

    def _bad(self, rng: random.Random) -> None:
        wrong: list[tuple[str, Any, int]] = [
            ("/generate", {"inputs": "x", "parameters": {"top_p": 2}}, 422),
            ("/generate", b"{", 422),
            ("/v1/completions", {"model": "other", "prompt": "x"}, 404),
            ("/generate", {"inputs": "x" * 40_000}, 422),
        ]
        path, content, expected = rng.choice(wrong)
        status, body = self.server.call("POST", path, content)
        assert status == expected, body


def private_memory(pid: int) -> int:
    """Return the memory that a process shares with no file, in bytes."""
    (kilobytes,) = re.findall(r"^RssAnon:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    return int(kilobytes) << 10
