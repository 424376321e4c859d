"""Continuous batching: who runs, who waits, and that nobody's answer depends on it."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from queue import Queue
from typing import Any, NoReturn, Self

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerotide_runtime.assets import load_assets
from zerotide_runtime.engine.batch import Batch, Move
from zerotide_runtime.engine.engine import Engine
from zerotide_runtime.engine.execution import PREFILL_TOKENS
from zerotide_runtime.engine.request import Choice, Event, FailureEvent, Report, Sampling, Sequence, TokenEvent
from zerotide_runtime.engine.runner import Runner
from zerotide_runtime.engine.text import Detokeniser, StopStrings
from zerotide_runtime.weights.mapped import MappedWeights

from .test_text import Bytes

WAIT = 60.0


class Recorder:
    """An observer that remembers."""

    def __init__(self) -> None:
        self.ready = threading.Event()
        self.asleep = threading.Event()
        self.error: BaseException | None = None
        self.steps: list[tuple[str, int]] = []

    def loaded(self) -> None:
        self.ready.set()

    def failed(self, error: BaseException) -> None:
        self.error = error
        self.ready.set()

    def slept(self, level: int) -> None:
        self.steps.append(("sleep", level))
        self.asleep.set()

    def succeeded(self) -> None:
        self.steps.append(("succession", 0))

    def stepped(self, kind: str, rows: int, tokens: int, seconds: float) -> None:
        self.steps.append((kind, rows))

    def told(self, kind: str, seconds: float) -> None:
        assert seconds >= 0

    def broke(self, kind: str) -> None:
        self.steps.append((f"broken {kind}", 0))


def make(prompt: list[int], count: int, sampling: Sampling | None = None) -> tuple[Sequence, Queue[Event]]:
    events: Queue[Event] = Queue()
    sequence = Sequence(
        prompt, count, frozenset(), sampling or Sampling(), StopStrings(), Detokeniser(Bytes()), events.put
    )
    return sequence, events


def collect(events: Queue[Event]) -> list[int]:
    tokens = []
    while True:
        event = events.get(timeout=WAIT)
        assert isinstance(event, TokenEvent), event
        tokens.append(event.token)
        if event.finish is not None:
            return tokens


class Started:
    """A recorder and an engine that runs as long as the context lasts."""

    recorder: Recorder
    engine: Engine

    def __enter__(self) -> Self:
        self.engine.start()
        assert self.recorder.ready.wait(WAIT)
        return self

    def __exit__(self, *_: object) -> None:
        self.engine.stop()
        self.engine.join(WAIT)


class Running(Started):
    """An engine with the tiny model; `tokens` is the size of its cache."""

    def __init__(self, folder: Path, tokens: int = 1 << 16, rows: int = 8) -> None:
        config = load_assets(folder).config
        self.recorder = Recorder()
        self.runner = Runner.load(config, MappedWeights(folder), tokens, threads=1)
        self.engine = Engine(lambda: (self.runner, None), rows, self.recorder, time.monotonic)

    def answer(self, prompt: list[int], count: int) -> list[int]:
        sequence, events = make(prompt, count)
        self.engine.submit(sequence)
        return collect(events)


PROMPTS = [[1 + i, *range(2, 12 + 17 * i)] for i in range(5)]


@pytest.fixture(scope="module")
def expected(tiny: Path) -> list[list[int]]:
    """Return the greedy answers that the sequences get alone, by transformers."""
    import torch
    from transformers import AutoModelForCausalLM

    model: Any = AutoModelForCausalLM.from_pretrained(tiny, dtype=torch.float32)
    answers = []
    for prompt in PROMPTS:
        ids = torch.tensor([prompt])
        out = model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=60, do_sample=False, pad_token_id=0
        )
        answers.append(out[0, len(prompt) :].tolist())
    return answers


def test_one_at_a_time_and_all_at_once_give_the_same(tiny: Path, expected: list[list[int]]) -> None:
    with Running(tiny) as running:
        assert [running.answer(prompt, 60) for prompt in PROMPTS] == expected
        together = [make(prompt, 60) for prompt in PROMPTS]
        for sequence, _ in together:
            running.engine.submit(sequence)
        assert [collect(events) for _, events in together] == expected
        assert max(rows for kind, rows in running.recorder.steps if kind == "decode") == len(PROMPTS)


def test_more_than_fit_wait_their_turn(tiny: Path, expected: list[list[int]]) -> None:
    with Running(tiny, rows=2) as running:
        together = [make(prompt, 60) for prompt in PROMPTS]
        for sequence, _ in together:
            running.engine.submit(sequence)
        assert [collect(events) for _, events in together] == expected
        assert max(rows for _, rows in running.recorder.steps) == 2


def test_who_is_preempted_goes_on_where_it_was(tiny: Path, expected: list[list[int]]) -> None:
    # Two fit at first and one at the end: 2 * 75 > 145 > 79 + 60.
    with Running(tiny, tokens=145) as running:
        together = [make(prompt, 60) for prompt in PROMPTS]
        for sequence, _ in together:
            running.engine.submit(sequence)
        assert [collect(events) for _, events in together] == expected
        prefills = sum(kind == "prefill" for kind, _ in running.recorder.steps)
        assert prefills > len(PROMPTS), "someone had to start over"


def test_a_long_prompt_comes_in_parts(tiny: Path) -> None:
    with Running(tiny) as running:
        running.answer([5] * (2 * PREFILL_TOKENS + 10), 2)
        assert [kind for kind, _ in running.recorder.steps] == ["prefill", "prefill", "prefill", "decode"]


def test_the_odds_of_a_prompt_are_those_of_transformers(tiny: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    prompt = [number * 37 % 256 for number in range(150)]
    model: Any = AutoModelForCausalLM.from_pretrained(tiny, dtype=torch.float32)
    logprobs = model(torch.tensor([prompt])).logits[0].log_softmax(-1)
    wanted = [logprobs[place, token].item() for place, token in enumerate(prompt[1:])]
    with Running(tiny, tokens=400) as running:
        for _ in range(2):  # what an earlier request left in the cache must not hide them
            asking, events = make(prompt, 60)
            asking.report = Report(top=2, prompt=True)
            crowd, others = make(prompt, 60)
            running.engine.submit(crowd)
            running.engine.submit(asking)  # the younger one is preempted, and its prompt read again
            assert collect(events) == collect(others)
            assert [choice.token for choice in asking.prompt_odds] == prompt[1:]
            assert [choice.logprob for choice in asking.prompt_odds] == pytest.approx(wanted, abs=1e-3)
            assert all(len(choice.top) == 2 for choice in asking.prompt_odds)


def test_the_odds_of_a_long_prompt_are_whole_beside_answers_that_grow(tiny: Path) -> None:
    """Each step computes a token of every running sequence, of one whose prompt is not complete as well."""
    prompt = [number * 37 % 256 for number in range(PREFILL_TOKENS + 200)]
    with Running(tiny) as running:
        told = []
        for beside in (False, True):
            other, others = make([1, 2, 3], 400)
            if beside:
                running.engine.submit(other)
                assert isinstance(others.get(timeout=WAIT), TokenEvent)
            asking, events = make(prompt, 3)
            asking.report = Report(prompt=True)
            running.engine.submit(asking)
            answer = collect(events)
            running.engine.cancel(other)
            assert [choice.token for choice in asking.prompt_odds] == prompt[1:]
            told.append((answer, [choice.logprob for choice in asking.prompt_odds]))
    assert told[0][0] == told[1][0] and told[0][1] == pytest.approx(told[1][1], abs=1e-3)


def test_memory_is_given_back_when_nothing_runs(tiny: Path) -> None:
    with Running(tiny) as running:
        running.answer([1, 2, 3], 3)
        deadline = time.monotonic() + WAIT
        while running.runner.cache.rows and time.monotonic() < deadline:
            time.sleep(0.001)
        assert running.runner.cache.keys == []


def test_a_cancelled_sequence_frees_its_row(tiny: Path) -> None:
    with Running(tiny, rows=1) as running:
        endless, events = make([1, 2], 4000)
        running.engine.submit(endless)
        events.get(timeout=WAIT)
        running.engine.cancel(endless)
        assert len(running.answer([3, 4], 5)) == 5, "there is one row, and it was free"
        assert len(endless.answer) < 4000


def test_who_leaves_takes_part_in_one_more_step_at_most(tiny: Path) -> None:
    with Running(tiny) as running:
        staying, events = make([1, 2], 200)
        leaving, others = make([3, 4], 4000)
        running.engine.submit(leaving)
        others.get(timeout=WAIT)
        running.engine.submit(staying)
        events.get(timeout=WAIT)
        running.engine.cancel(leaving)
        before = len(running.recorder.steps)
        assert len(collect(events)) == 199, "the other one goes on"
        assert running.recorder.steps[before:].count(("decode", 2)) <= 1


def test_a_sequence_that_waits_can_be_cancelled(tiny: Path) -> None:
    with Running(tiny, rows=1) as running:
        first, events = make([1, 2], 300)
        second, silence = make([1, 2], 5)
        running.engine.submit(first)
        running.engine.submit(second)
        running.engine.cancel(second)
        assert len(collect(events)) == 300
        assert running.answer([1, 2], 3)
        assert silence.empty()


def test_a_failed_pass_ends_its_own_sequences_only(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Running(tiny) as running:
        healthy = running.runner.prefill_one
        long, events = make([1, 2], 400)
        doomed, doom = make([66, 1], 5)

        def prefill(row: int, sequence: Sequence, limit: int) -> Choice | None:
            if sequence is doomed:
                raise MemoryError("no room")
            return healthy(row, sequence, limit)

        monkeypatch.setattr(running.runner, "prefill_one", prefill)
        running.engine.submit(long)
        running.engine.submit(doomed)
        assert doom.get(timeout=WAIT) == FailureEvent("MemoryError: no room")
        assert len(collect(events)) == 400
        assert running.recorder.steps.count(("broken prefill", 0)) == 1


def test_memory_that_cannot_be_had_is_an_error_to_who_needs_it(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Running(tiny) as running:
        reserve = running.runner.cache.reserve

        def short(rows: int, positions: int) -> bool:
            if rows * positions > 400:
                raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
            return reserve(rows, positions)

        monkeypatch.setattr(running.runner.cache, "reserve", short)
        together = [make(prompt, 60) for prompt in PROMPTS]
        large, failure = make([5] * 401, 2)
        grows, cut = make([1, 2], 600)
        for sequence in (together[0][0], large, grows, *(sequence for sequence, _ in together[1:])):
            running.engine.submit(sequence)
        message = "out of memory for 401 tokens; ask for less, or raise the limit"
        assert failure.get(timeout=WAIT) == FailureEvent(message)
        assert [len(collect(events)) for _, events in together] == [60] * len(PROMPTS)
        for _ in range(399):
            assert isinstance(cut.get(timeout=WAIT), TokenEvent)
        assert cut.get(timeout=WAIT) == FailureEvent(message), "what cannot go on ends, after all that it got"
        assert running.answer([1, 2, 3], 5), "the engine goes on"


def test_a_model_that_cannot_be_loaded_is_reported() -> None:
    recorder = Recorder()

    def load() -> NoReturn:
        raise MemoryError("weights")

    engine = Engine(load, 1, recorder, time.monotonic)
    engine.start()
    assert recorder.ready.wait(WAIT)
    assert isinstance(recorder.error, MemoryError)


class BatchModel:
    """Sequences in an imagined cache: `rows[i]` says whose keys lie in row i."""

    def __init__(self, max_rows: int) -> None:
        self.batch = Batch(max_rows)
        self.rows: dict[int, Sequence] = {}
        self.number = 0

    def move(self, move: Move | None) -> None:
        if move is not None:
            self.rows[move.target] = self.rows[move.source]

    def check(self) -> None:
        assert [self.rows[row] for row in range(len(self.batch.running))] == self.batch.running


@given(st.lists(st.sampled_from(["submit", "admit", "finish", "preempt"]), max_size=40), st.integers(1, 4), st.data())
def test_every_running_sequence_is_in_its_row(actions: list[str], max_rows: int, data: st.DataObject) -> None:
    model = BatchModel(max_rows)
    batch = model.batch
    for action in actions:
        if action == "submit":
            sequence, _ = make([1, 2], 5)
            model.number += 1
            sequence.number = model.number
            batch.waiting.append(sequence)
        elif action == "admit":
            before = list(batch.waiting)
            admitted = batch.admit(lambda rows, positions: rows <= 3)
            assert admitted == before[: len(admitted)], "first come, first served"
            for sequence in admitted:
                model.rows[batch.running.index(sequence)] = sequence
        elif batch.running and action == "finish":
            model.move(batch.remove(data.draw(st.sampled_from(batch.running))))
        elif batch.running and action == "preempt":
            youngest = max(batch.running, key=lambda s: s.number)
            model.move(batch.preempt())
            assert batch.waiting[0] is youngest
            assert youngest.cached == 0
        assert len(batch.running) <= min(max_rows, 3)
        model.check()
