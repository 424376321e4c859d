"""Packed passes and steps that are started ahead, on a processor: the arithmetic of the GPU's path without one."""

from __future__ import annotations

import json
import random
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.runtime.models import make_tiny
from tests.runtime.test_engine import PROMPTS, WAIT, Recorder, Started, collect, make
from tests.runtime.test_model import LLAMA3, reference_logits
from zerotide_runtime.assets import load_assets
from zerotide_runtime.engine.config import ModelConfig, parse_config
from zerotide_runtime.engine.engine import Engine
from zerotide_runtime.engine.layers import build_weights
from zerotide_runtime.engine.request import FailureEvent, Report, Sampling
from zerotide_runtime.engine.runner import Runner
from zerotide_runtime.engine.tensors import TensorReader
from zerotide_runtime.errors import OutOfMemory
from zerotide_runtime.gpu.arena import Arena
from zerotide_runtime.gpu.limits import gpu_cache_tokens
from zerotide_runtime.gpu.model import PackedLlama
from zerotide_runtime.gpu.pack import pack
from zerotide_runtime.gpu.runner import GpuRunner
from zerotide_runtime.gpu.steps import sizes
from zerotide_runtime.weights.mapped import MappedWeights

CPU = torch.device("cpu")
FAMILIES: list[tuple[str, dict[str, Any]]] = [
    ("llama", {}),
    ("llama", {"rope_parameters": LLAMA3, "head_dim": 16}),
    ("mistral", {"sliding_window": None}),
    ("qwen2", {}),
    ("qwen3", {"head_dim": 16}),
    ("gemma", {"head_dim": 16, "tie_word_embeddings": True}),
]


def runner_of(folder: Path, tokens: int, most: int = 8) -> GpuRunner:
    config = load_assets(folder).config
    weights = build_weights(config, TensorReader(MappedWeights(folder), torch.float32, CPU))
    return GpuRunner(config, weights, tokens, most)


class Packed(Started):
    """An engine on the GPU's runner, computed by the processor."""

    def __init__(self, folder: Path, tokens: int = 1 << 12, rows: int = 8) -> None:
        self.recorder = Recorder()
        self.runner = runner_of(folder, tokens, rows)
        self.engine = Engine(lambda: (self.runner, None), rows, self.recorder, time.monotonic)


def answers(engine: Engine, prompts: list[list[int]], count: int) -> list[list[int]]:
    together = [make(prompt, count) for prompt in prompts]
    for sequence, _ in together:
        engine.submit(sequence)
    return [collect(events) for _, events in together]


@pytest.fixture(scope="module")
def expected(tiny: Path) -> list[list[int]]:
    """Return the answers of the processor's own engine, which other tests compare with transformers."""
    recorder = Recorder()
    runner = Runner.load(load_assets(tiny).config, MappedWeights(tiny), 1 << 16, threads=1)
    engine = Engine(lambda: (runner, None), 8, recorder, time.monotonic)
    engine.start()
    try:
        return answers(engine, PROMPTS, 60)
    finally:
        engine.stop()
        engine.join(WAIT)


@pytest.mark.parametrize(("kind", "changes"), FAMILIES)
def test_packed_logits_equal_the_reference(tmp_path: Path, kind: str, changes: dict[str, Any]) -> None:
    folder = make_tiny(tmp_path / "model", kind, **changes)
    config = parse_config(json.loads((folder / "config.json").read_text()))
    model = PackedLlama(config, build_weights(config, TensorReader(MappedWeights(folder), torch.float32, CPU)))
    arena = Arena(config, 512, 4, torch.zeros)
    lengths = [40, 7, 100]
    prompts = [torch.randint(0, 256, (length,)).tolist() for length in lengths]
    wanted = [reference_logits(folder, torch.tensor([prompt]))[0] for prompt in prompts]
    assert arena.reserve(3, 101)
    starts = [arena.start(row) for row in range(3)]
    begun = [0, 0, 0]
    for parts in ([30, 2, 99], [9, 4, 0], [1, 1, 1]):  # in parts of any size, side by side
        rows = [row for row in range(3) if parts[row]]
        tokens = [prompts[row][begun[row] : begun[row] + parts[row]] for row in rows]
        made = pack(tokens, [begun[row] for row in rows], [starts[row] for row in rows], CPU, every=False)
        logits = model.run(made, arena)
        for row in rows:
            begun[row] += parts[row]
        for place, row in enumerate(rows):
            torch.testing.assert_close(logits[place], wanted[row][begun[row] - 1], atol=2e-3, rtol=1e-3)


def test_alone_and_together_the_answers_are_those_of_the_processor(tiny: Path, expected: list[list[int]]) -> None:
    with Packed(tiny) as packed:
        assert [answers(packed.engine, [prompt], 60)[0] for prompt in PROMPTS] == expected
        assert answers(packed.engine, PROMPTS, 60) == expected
        kinds = [kind for kind, rows in packed.recorder.steps if rows == len(PROMPTS)]
        assert kinds.count("decode") > 50


def test_room_runs_out_and_is_laid_out_anew(tiny: Path, expected: list[list[int]]) -> None:
    for tokens in (145, 300, 450):  # one, two, or three of the longest
        with Packed(tiny, tokens) as packed:
            assert answers(packed.engine, PROMPTS, 60) == expected


def test_who_comes_and_goes_changes_nobody_elses_answer(tiny: Path, expected: list[list[int]]) -> None:
    chance = random.Random(1)
    with Packed(tiny, 600, rows=4) as packed:
        for _ in range(3):
            together = [(index, *make(prompt, 60)) for index, prompt in enumerate(PROMPTS * 2)]
            left = []
            for index, sequence, events in together:
                packed.engine.submit(sequence)
                if chance.random() < 0.4:
                    packed.engine.cancel(sequence)
                else:
                    left.append((index, events))
            for index, events in left:
                assert collect(events) == expected[index % len(PROMPTS)]


def test_drawn_and_likeliest_tokens_go_side_by_side(tiny: Path, expected: list[list[int]]) -> None:
    setting = Sampling(temperature=0.8, top_k=20, top_p=0.9, repetition_penalty=1.1, seed=3)
    with Packed(tiny) as packed:
        alone, events = make(PROMPTS[0], 40, setting)
        packed.engine.submit(alone)
        drawn = collect(events)
        both = [make(PROMPTS[0], 40, setting), make(PROMPTS[1], 60)]
        for sequence, _ in both:
            packed.engine.submit(sequence)
        assert [collect(events) for _, events in both] == [drawn, expected[1]]


def test_the_odds_of_a_prompt_come_with_its_answer(tiny: Path, expected: list[list[int]]) -> None:
    prompt = [number * 37 % 256 for number in range(150)]
    logprobs = reference_logits(tiny, torch.tensor([prompt]))[0].log_softmax(-1)
    with Packed(tiny) as packed:
        asking, events = make(prompt, 3)
        asking.report = Report(prompt=True)
        other, others = make(PROMPTS[2], 60)
        packed.engine.submit(asking)
        packed.engine.submit(other)
        assert len(collect(events)) == 3
        assert collect(others) == expected[2]
    told = [choice.logprob for choice in asking.prompt_odds]
    assert told == pytest.approx([logprobs[place, token].item() for place, token in enumerate(prompt[1:])], abs=1e-3)


def test_prompts_that_fail_together_are_tried_one_by_one(
    tiny: Path, expected: list[list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    with Packed(tiny) as packed:
        healthy = packed.runner.prefill

        def prefill(parts: list[Any]) -> Any:
            if len(parts) > 1 or parts[0].sequence is together[3][0]:
                raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB.")
            return healthy(parts)

        together = [make(prompt, 60) for prompt in PROMPTS]
        monkeypatch.setattr(packed.runner, "prefill", prefill)
        for sequence, _ in together:
            packed.engine.submit(sequence)
        failure = together[3][1].get(timeout=WAIT)
        assert isinstance(failure, FailureEvent) and "out of memory" in failure.message
        assert [collect(events) for place, (_, events) in enumerate(together) if place != 3] == [
            answer for place, answer in enumerate(expected) if place != 3
        ]


CONFIG = ModelConfig(
    *(8, 8, 1, 1, 1, 2, 8, 64),
    norm_epsilon=1e-5,
    rope_theta=1e4,
    rope_scaling=None,
    tied=True,
    qkv_bias=False,
    dtype="float32",
)


@given(st.data())
def test_rows_of_an_arena_keep_what_is_theirs(data: st.DataObject) -> None:
    arena = Arena(CONFIG, data.draw(st.integers(8, 60)), data.draw(st.integers(1, 6)), torch.zeros)
    held: list[list[int]] = []  # what each row has written
    written = 0
    for _ in range(data.draw(st.integers(1, 12))):
        step = data.draw(st.sampled_from(["grow", "add", "leave", "clear"]))
        longest = max(map(len, held), default=0)
        if step == "add" and arena.reserve(len(held) + 1, longest + 1):
            held.append([])
        elif step == "leave" and held:
            row, last = data.draw(st.integers(0, len(held) - 1)), len(held) - 1
            if row != last:
                arena.move(last, row, len(held[last]))
            held[row] = held[last]
            held.pop()
        elif step == "clear" and not held:
            arena.clear()
        elif step == "grow" and held and arena.reserve(len(held), longest + 1):
            row = data.draw(st.integers(0, len(held) - 1))
            written += 1
            arena.keys[0][arena.start(row) + len(held[row])] = written
            held[row].append(written)
        assert len({arena.start(row) for row in range(len(held))}) == len(held)
        for row, values in enumerate(held):
            start = arena.start(row)
            assert start + len(values) <= arena.tokens
            assert arena.keys[0][start : start + len(values), 0, 0].tolist() == values


@given(st.integers(1, 1024), st.integers(1, 1024))
def test_a_steps_size_is_close_to_what_is_needed(most: int, rows: int) -> None:
    found = sizes(most)
    assert found == sorted(set(found)) and found[-1] == most
    if rows <= most:
        size = next(size for size in found if size >= rows)
        assert size - rows < max(2, rows / 2 + 4, 32)


def test_the_cache_takes_what_a_gpu_has_left() -> None:
    rest = gpu_cache_tokens(80 << 30, 16 << 30, 131072, 32, 128256, 256)
    assert 450_000 < rest < 480_000
    assert gpu_cache_tokens(80 << 30, 16 << 30, 131072, 32, 128256, 256, wanted=1 << 30) == 7590
    with pytest.raises(OutOfMemory, match="take a larger GPU"):
        gpu_cache_tokens(16 << 30, 16 << 30, 131072, 32, 128256, 32)
