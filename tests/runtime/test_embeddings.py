"""Embeddings: exact against transformers on every way to compute, and the route by the openai client."""

from __future__ import annotations

import base64
import http.client
import json
import random
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from queue import Queue
from typing import Any

import numpy as np
import openai
import pytest
import torch

from tests.runtime.embedders import make_embedder, reference
from tests.runtime.process import RuntimeProcess, folder_uri
from tests.runtime.test_engine import PROMPTS, WAIT, Recorder, Running, Started, collect, make
from tests.runtime.test_packed import Packed
from zerotide_runtime.assets import load_assets
from zerotide_runtime.engine.embedding import Embedding, finished
from zerotide_runtime.engine.engine import Engine
from zerotide_runtime.engine.quick import QuickRunner
from zerotide_runtime.engine.request import Event, FailureEvent, Sampling
from zerotide_runtime.engine.text import StopStrings
from zerotide_runtime.pooling import Pooling
from zerotide_runtime.weights.mapped import MappedWeights

MODES = ("cls", "mean", "lasttoken")
ONE_OF_EACH = [[5], [7, 8], [11, 250, 3], [random.Random(1).randrange(256) for _ in range(1300)]]


class Quick(Started):
    """An engine on the path without torch."""

    def __init__(self, folder: Path, tokens: int = 1 << 14, rows: int = 8) -> None:
        self.recorder = Recorder()
        self.runner = QuickRunner(load_assets(folder).config, MappedWeights(folder), tokens)
        self.engine = Engine(lambda: (self.runner, None), rows, self.recorder, time.monotonic)


WAYS = {"quick": Quick, "torch": Running, "packed": Packed}


def submit(running: Any, prompt: list[int], pooling: Pooling) -> tuple[Embedding, Queue[Event]]:
    """Queue an input; return it and where its one event comes."""
    sequence, events = make(prompt, 1)
    made = Embedding(
        prompt=prompt,
        max_new_tokens=1,
        end_tokens=frozenset(),
        sampling=Sampling(),
        stops=StopStrings(()),
        text=sequence.text,
        sink=events.put,
        pooling=pooling,
    )
    running.engine.submit(made)
    return made, events


@pytest.mark.parametrize("kind", ["llama", "qwen3"])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("way", WAYS)
def test_vectors_are_those_of_transformers(way: str, mode: str, kind: str, tmp_path: Path) -> None:
    folder = make_embedder(tmp_path / "m", mode, kind=kind)
    pooling = load_assets(folder).pooling
    assert pooling == Pooling(mode, normalise=True)
    with WAYS[way](folder) as running:
        asked = [submit(running, prompt, pooling) for prompt in ONE_OF_EACH]
        for _, events in asked:
            assert not isinstance(events.get(timeout=WAIT), FailureEvent)
        vectors = [finished(sequence.vector, 48, normalise=True) for sequence, _ in asked]
    expected = reference(folder, ONE_OF_EACH, mode)
    torch.testing.assert_close(torch.from_numpy(np.stack(vectors)).double(), expected, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("way", WAYS)
def test_answers_and_embeddings_go_side_by_side(way: str, tmp_path: Path) -> None:
    folder = make_embedder(tmp_path / "m", "mean")
    pooling = Pooling("mean", normalise=True)
    with WAYS[way](folder) as running:
        alone = []
        for prompt in PROMPTS[:2]:
            sequence, events = make(prompt, 24)
            running.engine.submit(sequence)
            alone.append(collect(events))
        answers = []
        for prompt in PROMPTS[:2]:
            sequence, events = make(prompt, 24)
            running.engine.submit(sequence)
            answers.append(events)
        asked = [submit(running, prompt, pooling) for prompt in ONE_OF_EACH]
        assert [collect(events) for events in answers] == alone
        for _, events in asked:
            assert not isinstance(events.get(timeout=WAIT), FailureEvent)
        vectors = [finished(sequence.vector, 48, normalise=True) for sequence, _ in asked]
    expected = reference(folder, ONE_OF_EACH, "mean")
    torch.testing.assert_close(torch.from_numpy(np.stack(vectors)).double(), expected, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("mode", MODES)
def test_who_is_preempted_starts_over(mode: str) -> None:
    states = np.random.default_rng(0).standard_normal((6, 4)).astype(np.float32)
    sequence, _ = make([1] * 6, 1)
    made = Embedding(
        prompt=sequence.prompt,
        max_new_tokens=1,
        end_tokens=frozenset(),
        sampling=Sampling(),
        stops=StopStrings(()),
        text=sequence.text,
        sink=sequence.sink,
        pooling=Pooling(mode, normalise=False),
    )
    assert made.take(states[::-1][:4]) is None
    made.cached = 0  # as the batch does it
    assert made.take(states[:5]) is None
    assert made.take(states[5:]) is not None
    expected = {"cls": states[0], "mean": states.mean(0), "lasttoken": states[-1]}[mode]
    np.testing.assert_allclose(made.vector, expected, rtol=1e-6)


@pytest.fixture(scope="module")
def embedder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_embedder(tmp_path_factory.mktemp("embedder") / "m", "lasttoken", matryoshka_dimensions=[8, 16])


@pytest.fixture(scope="module")
def serving(embedder: Path) -> Iterator[RuntimeProcess]:
    with RuntimeProcess(folder_uri(embedder), "--max-total-tokens", "512", name="tiny") as process:
        yield process.ready()


@pytest.fixture
def client(serving: RuntimeProcess) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{serving.url}/v1", api_key="none", max_retries=0) as made:
        yield made


def tokens_of(folder: Path, text: str) -> list[int]:
    """Return a text as the model reads it."""
    return load_assets(folder).codec.encode(text, add_special_tokens=True)


def test_the_client_gets_vectors(client: openai.OpenAI, embedder: Path) -> None:
    texts = ["to be", "or not to be"]
    answer = client.embeddings.create(model="tiny", input=texts)  # which asks for base64
    expected = reference(embedder, [tokens_of(embedder, text) for text in texts], "lasttoken")
    vectors = torch.tensor([item.embedding for item in answer.data]).double()
    torch.testing.assert_close(vectors, expected, atol=2e-5, rtol=1e-4)
    assert [(item.index, item.object) for item in answer.data] == [(0, "embedding"), (1, "embedding")]
    assert (answer.object, answer.model) == ("list", "tiny")
    assert (answer.usage.prompt_tokens, answer.usage.total_tokens) == (17, 17)


def test_numbers_and_base64_are_the_same(client: openai.OpenAI, serving: RuntimeProcess) -> None:
    numbers = client.embeddings.create(model="tiny", input="x", encoding_format="float").data[0].embedding
    _, body = serving.call("POST", "/v1/embeddings", {"model": "tiny", "input": "x", "encoding_format": "base64"})
    raw = base64.b64decode(body["data"][0]["embedding"])
    assert list(struct.unpack(f"<{len(raw) // 4}f", raw)) == pytest.approx(numbers, rel=1e-6)
    _, body = serving.call("POST", "/v1/embeddings", {"model": "tiny", "input": "x"})
    assert body["data"][0]["embedding"] == pytest.approx(numbers, rel=1e-6)


def test_tokens_stand_for_texts(client: openai.OpenAI, embedder: Path) -> None:
    texts = ["one", "another"]
    lists = [tokens_of(embedder, text) for text in texts]
    of_texts = client.embeddings.create(model="tiny", input=texts).data
    of_lists = client.embeddings.create(model="tiny", input=lists).data
    of_list = client.embeddings.create(model="tiny", input=lists[0]).data
    for one, other in zip(of_texts, of_lists, strict=True):
        assert one.embedding == pytest.approx(other.embedding, abs=1e-6)
    assert of_list[0].embedding == pytest.approx(of_texts[0].embedding, abs=1e-6)


def test_an_embedding_may_be_cut_where_the_model_says_so(client: openai.OpenAI, embedder: Path) -> None:
    answer = client.embeddings.create(model="tiny", input="short", dimensions=8)
    expected = reference(embedder, [tokens_of(embedder, "short")], "lasttoken", size=8)
    torch.testing.assert_close(torch.tensor([answer.data[0].embedding]).double(), expected, atol=2e-5, rtol=1e-4)
    assert len(client.embeddings.create(model="tiny", input="short", dimensions=48).data[0].embedding) == 48


@pytest.mark.parametrize(
    ("change", "param", "says"),
    [
        ({"dimensions": 9}, "dimensions", "`dimensions` is 9, but this model's embeddings have 8 or 16 or 48 numbers"),
        ({"dimensions": 0}, "dimensions", "`dimensions` is 0"),
        ({"dimensions": "x"}, "dimensions", "`dimensions` must be an integer"),
        ({"encoding_format": "int8"}, "encoding_format", "`encoding_format` must be float or base64"),
        ({"input": ""}, "input", "`input` must not be empty"),
        ({"input": []}, "input", "`input` must be a string, a list of strings, or tokens"),
        ({"input": [259]}, "input", "`input` has tokens outside the vocabulary of 259"),
        ({"input": ["a"] * 2049}, "input", "`input` may have at most 2048 items; this one has 2049"),
        ({"model": None}, "model", "you must provide a `model`"),
    ],
)
def test_what_is_wrong_is_named(serving: RuntimeProcess, change: dict[str, Any], param: str, says: str) -> None:
    status, body = serving.call("POST", "/v1/embeddings", {"model": "tiny", "input": "x", **change})
    assert (status, body["error"]["type"], body["error"]["param"]) == (400, "invalid_request_error", param)
    assert says in body["error"]["message"]


def test_too_long_an_input_is_refused_and_the_longest_is_not(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        client.embeddings.create(model="tiny", input=["a", "a" * 513])
    assert (refused.value.code, refused.value.param) == ("context_length_exceeded", "input")
    assert "maximum context length is 512 tokens. However, an input has 513 tokens" in str(refused.value)
    assert client.embeddings.create(model="tiny", input="a" * 512).usage.prompt_tokens == 512


def test_long_lists_are_answered_in_order(client: openai.OpenAI) -> None:
    texts = [chr(97 + n % 26) * (1 + n // 26) for n in range(60)]
    answer = client.embeddings.create(model="tiny", input=texts)
    assert [item.index for item in answer.data] == list(range(60))
    last = client.embeddings.create(model="tiny", input=texts[-1])
    assert answer.data[-1].embedding == pytest.approx(last.data[0].embedding, abs=1e-6)


def test_a_client_that_leaves_is_forgotten(serving: RuntimeProcess, client: openai.OpenAI) -> None:
    before = serving.metric("zerotide_runtime_requests_cancelled")
    body = json.dumps({"model": "tiny", "input": ["a" * 512] * 2048}).encode()
    connection = http.client.HTTPConnection("127.0.0.1", serving.port)
    connection.request("POST", "/v1/embeddings", body)
    deadline = time.monotonic() + WAIT
    while serving.metric("tgi_batch_current_size") == 0 and time.monotonic() < deadline:
        time.sleep(0.01)
    connection.close()
    while serving.metric("zerotide_runtime_requests_cancelled") == before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert serving.metric("zerotide_runtime_requests_cancelled") == before + 1
    assert client.embeddings.create(model="tiny", input="a").usage.prompt_tokens == 1
