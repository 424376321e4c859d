"""The first tokens without torch: the same answers, and a change to torch that nobody notices."""

from __future__ import annotations

import random
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.runtime.models import make_tiny
from tests.runtime.test_engine import PROMPTS, WAIT, Recorder, Started, collect, make
from tests.runtime.test_model import LLAMA3, reference_logits
from zerotide_runtime.assets import load_assets
from zerotide_runtime.engine.engine import Engine
from zerotide_runtime.engine.execution import Succession
from zerotide_runtime.engine.quick import QuickRunner, Span, quick_can_run
from zerotide_runtime.engine.quick_sampler import choose, understands
from zerotide_runtime.engine.request import Report, Sampling, Sequence
from zerotide_runtime.engine.runner import Runner
from zerotide_runtime.engine.sampler import sample
from zerotide_runtime.weights.mapped import MappedWeights
from zerotide_runtime.weights.publish import publish


def quick_runner(folder: Path, tokens: int = 1 << 16) -> QuickRunner:
    return QuickRunner(load_assets(folder).config, MappedWeights(folder), tokens)


class Changing(Started):
    """An engine that starts on the quick path; torch takes over when `allow` is set."""

    def __init__(self, folder: Path, tokens: int = 1 << 16) -> None:
        self.recorder = Recorder()
        self.allow = threading.Event()
        self.quick = quick_runner(folder, tokens)
        self.succession = Succession(self._make)
        self.engine = Engine(lambda: (self.quick, self.succession), 8, self.recorder, time.monotonic)

    def _make(self) -> Runner:
        assert self.allow.wait(WAIT)
        return Runner.beside(self.quick, 1 << 16, threads=1)

    def __exit__(self, *failure: object) -> None:
        self.allow.set()
        super().__exit__(*failure)


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("llama", {}),
        ("llama", {"tie_word_embeddings": True, "num_key_value_heads": 4}),
        ("llama", {"rope_parameters": LLAMA3, "head_dim": 16}),
        ("qwen2", {}),
        ("qwen3", {"head_dim": 16}),
        ("gemma", {"head_dim": 16, "tie_word_embeddings": True}),
    ],
)
def test_logits_equal_the_reference(tmp_path: Path, kind: str, changes: dict[str, Any]) -> None:
    folder = make_tiny(tmp_path / "model", kind, **changes)
    tokens = torch.randint(0, 256, (1, 150))
    expected = reference_logits(folder, tokens)[0].numpy()
    publish(folder, tmp_path / "published")
    runner = quick_runner(tmp_path / "published")
    assert runner.cache.reserve(2, 150)
    for start, end in [(0, 90), (90, 147), (147, 148), (148, 149), (149, 150)]:
        # The other row begins later, so that one pass holds spans of different lengths and places.
        spans = [Span(1, start, end), Span(0, 0, start + 1)]
        logits = runner._forward([*tokens[0, start:end].tolist(), *tokens[0, : start + 1].tolist()], spans)
        np.testing.assert_allclose(logits[0], expected[end - 1], atol=2e-3, rtol=1e-3)
        np.testing.assert_allclose(logits[1], expected[start], atol=2e-3, rtol=1e-3)


SETTINGS = [
    Sampling(),
    Sampling(temperature=0.8, seed=3),
    Sampling(temperature=1.3, top_k=7, seed=4),
    Sampling(temperature=1.0, top_p=0.6, seed=5),
    Sampling(temperature=0.7, top_k=40, top_p=0.9, repetition_penalty=1.3, seed=6),
    Sampling(frequency_penalty=0.9, presence_penalty=0.4),
    Sampling(temperature=0.9, bias=((4, 5.0), (9, -100.0)), seed=7),
]


class Even:
    """A constraint that allows every second of the first 288 tokens."""

    error = ""

    def allowed(self) -> bytes | None:
        return b"\x55" * 36

    def accept(self, token: int) -> bool:
        return False


@pytest.mark.parametrize("raw", [False, True])
@pytest.mark.parametrize("constrained", [False, True])
@pytest.mark.parametrize("setting", SETTINGS)
def test_the_same_tokens_are_drawn_as_with_torch(setting: Sampling, constrained: bool, raw: bool) -> None:
    numbers = np.random.default_rng(1)
    for _ in range(20):
        logits = numbers.normal(0, 3, 300).astype(np.float32)
        sequences = []
        for _ in range(2):
            sequence, _ = make([1, 2, 3, 250], 50, setting)
            sequence.answer = [5, 6, 5, 7]
            sequence.report = Report(top=3, raw=raw)
            sequence.constraint = Even() if constrained else None
            sequences.append(sequence)
        (expected,) = sample(torch.from_numpy(logits.copy())[None], sequences[:1])
        chosen = choose(logits.copy(), sequences[1])
        assert chosen.token == expected.token
        assert chosen.logprob == pytest.approx(expected.logprob, abs=1e-5)
        assert [token for token, _ in chosen.top] == [token for token, _ in expected.top]
        assert [odds for _, odds in chosen.top] == pytest.approx([odds for _, odds in expected.top], abs=1e-5)


def test_what_it_does_not_know_is_left_to_torch() -> None:
    @dataclass(frozen=True)
    class Wider(Sampling):
        minimum: float = 0.0

    @dataclass(eq=False)
    class Guided(Sequence):
        guide: str | None = None
        marks: list[int] = field(default_factory=list)

    plain, _ = make([1], 2, Sampling(temperature=0.5, top_k=3, top_p=0.5, seed=9, repetition_penalty=2.0))
    plain.rng, plain.started, plain.answer = random.Random(4), 1.0, [3]
    assert understands(plain)
    assert not understands(make([1], 2, Sampling(typical_p=0.5))[0])
    assert not understands(make([1], 2, Sampling(watermark=True))[0])
    plain.report = Report(top=2, prompt=True)
    assert not understands(plain)
    assert not understands(make([1], 2, Wider(minimum=0.1))[0])
    guided = Guided([1], 2, frozenset(), Sampling(), plain.stops, plain.text, plain.sink, guide="[a-z]+")
    assert not understands(guided)


@pytest.fixture(scope="module")
def expected(tiny: Path) -> list[list[int]]:
    runner = Runner.load(load_assets(tiny).config, MappedWeights(tiny), 1 << 16, threads=1)
    recorder = Recorder()
    engine = Engine(lambda: (runner, None), 8, recorder, time.monotonic)
    engine.start()
    answers = []
    for prompt in PROMPTS:
        sequence, events = make(prompt, 60)
        engine.submit(sequence)
        answers.append(collect(events))
    engine.stop()
    engine.join(WAIT)
    return answers


def test_one_alone_never_needs_torch(tiny: Path, expected: list[list[int]]) -> None:
    with Changing(tiny) as changing:
        sequence, events = make(PROMPTS[1], 60)
        changing.engine.submit(sequence)
        assert collect(events) == expected[1]
        assert ("succession", 0) not in changing.recorder.steps


def test_several_run_on_and_change_over_in_the_middle(tiny: Path, expected: list[list[int]]) -> None:
    with Changing(tiny) as changing:
        together = [make(prompt, 60) for prompt in PROMPTS]
        with changing.engine._changed:  # or the first of them may be done before the second one comes
            for sequence, _ in together:
                changing.engine.submit(sequence)
        firsts = [events.get(timeout=WAIT) for _, events in together]
        changing.allow.set()
        answers = [[first.token, *collect(events)] for first, (_, events) in zip(firsts, together, strict=True)]  # type: ignore[union-attr]
        assert answers == expected
        assert changing.succession.begun


def test_a_wish_beyond_the_quick_path_waits_for_torch(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Changing(tiny) as changing:
        monkeypatch.setattr(changing.quick, "takes", lambda sequence: False)
        sequence, events = make([1, 2], 4)
        changing.engine.submit(sequence)
        changing.allow.set()
        assert len(collect(events)) == 4
        assert changing.recorder.steps[0] == ("succession", 0)


def test_in_quiet_times_torch_is_made_ready(tiny: Path) -> None:
    with Changing(tiny) as changing:
        changing.allow.set()
        deadline = time.monotonic() + WAIT
        while not changing.succession.done and time.monotonic() < deadline:
            time.sleep(0.01)
        sequence, events = make([1, 2], 4)
        changing.engine.submit(sequence)
        assert len(collect(events)) == 4
        assert changing.recorder.steps[0] == ("succession", 0)


def test_where_torch_fails_the_process_is_told(tiny: Path) -> None:
    recorder = Recorder()
    failed = threading.Event()
    recorder.failed = lambda error: (setattr(recorder, "error", error), failed.set())[1]  # type: ignore[method-assign, func-returns-value]

    def make_none() -> Runner:
        raise MemoryError("torch")

    engine = Engine(lambda: (quick_runner(tiny), Succession(make_none)), 8, recorder, time.monotonic)
    engine.start()
    for _ in range(2):
        engine.submit(make([1, 2], 4000)[0])
    assert failed.wait(WAIT)
    assert isinstance(recorder.error, MemoryError)


def test_only_float32_is_run_without_torch(tiny: Path, tmp_path: Path) -> None:
    publish(tiny, tmp_path / "half", "bfloat16")
    assert quick_can_run(MappedWeights(tiny))
    assert not quick_can_run(MappedWeights(tmp_path / "half"))
