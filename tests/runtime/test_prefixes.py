"""What prompts begin with alike is computed once, and nobody's answer depends on it."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.runtime.process import RuntimeProcess, folder_uri
from tests.runtime.test_engine import PROMPTS, WAIT, Running, collect, expected, make
from tests.runtime.test_packed import Packed
from tests.runtime.test_quick import Changing, quick_runner
from zerotide_runtime.engine.engine import Engine
from zerotide_runtime.engine.execution import PREFILL_TOKENS
from zerotide_runtime.engine.kv import KEPT_SHARE, Alike
from zerotide_runtime.engine.prefixes import FEWEST, Found, Prefixes, shared
from zerotide_runtime.engine.request import Report

__all__ = ["expected"]  # a fixture

COMMON = [number * 31 % 256 for number in range(200)]
TOKENS = st.lists(st.integers(0, 2), max_size=40)


@given(TOKENS, TOKENS, TOKENS)
def test_the_common_beginning_of_two(common: list[int], one: list[int], other: list[int]) -> None:
    one, other = common + one, common + other
    naive = next((place for place, pair in enumerate(zip(one, other, strict=False)) if pair[0] != pair[1]), None)
    assert shared(one, other) == (min(len(one), len(other)) if naive is None else naive)


KEPT = st.tuples(st.lists(st.integers(0, 1), max_size=3 * FEWEST), st.sampled_from(["", "a"]))


@given(st.integers(0, 8 * FEWEST), st.lists(KEPT, max_size=12))
def test_what_is_kept_is_found_and_the_unused_goes_first(most: int, actions: list[tuple[list[int], str]]) -> None:
    prefixes, model = Prefixes(most), list[tuple[list[int], str]]()  # the latter the least recently used first
    for tokens, salt in actions:
        best = max(model, key=lambda each: shared(each[0], tokens) if each[1] == salt else 0, default=([], salt))
        length = shared(best[0], tokens) if best[1] == salt else 0
        if FEWEST <= len(tokens) <= most:
            if length:
                model.append(model.pop(model.index(best)))
            if length < len(tokens):
                if length and length == len(best[0]):
                    model.remove(best)
                while sum(len(each[0]) for each in model) + len(tokens) > most:
                    model.pop(0)
                model.append((tokens, salt))
        prefixes.keep(tokens, salt, partial(tuple, tokens))
        assert prefixes.tokens == sum(len(each[0]) for each in model) <= most
        for wanted, whose in model:
            # Looked at in the model's order, which this leaves as it is.
            found = prefixes.find(wanted, whose)
            assert found.kept is not None and found.length == len(wanted)
            assert found.kept.content[: len(wanted)] == tuple(wanted)
    assert prefixes.find([0] * FEWEST, "nobody's") == Found(None, 0)


def test_memory_that_cannot_be_had_for_keeping_is_no_failure() -> None:
    prefixes = Prefixes(100)
    prefixes.keep(COMMON[:40], "", lambda: "kept")

    def none() -> Any:
        raise MemoryError

    prefixes.keep(COMMON[50:90], "", none)
    assert prefixes.tokens == 0


def test_a_conversation_goes_on(tiny: Path) -> None:
    with Running(tiny) as fresh:
        first = fresh.answer(COMMON, 20)
    longer = [*COMMON, *first, 7, 8, 9]
    with Running(tiny) as fresh:
        wanted = fresh.answer(longer, 20)
    with Running(tiny) as running:
        assert running.answer(COMMON, 20) == first
        before = len(running.recorder.steps)
        again, events = make(longer, 20)
        running.engine.submit(again)
        assert collect(events) == wanted
        # The newest token of an answer has not been computed with.
        assert again.recalled == len(COMMON) + len(first) - 1
        assert [kind for kind, _ in running.recorder.steps[before:]].count("prefill") == 1


def test_who_runs_lends_to_who_comes(tiny: Path) -> None:
    prompts = [[*COMMON, number, number + 1] for number in range(4)]
    with Running(tiny) as fresh:
        wanted = [fresh.answer(prompt, 20) for prompt in prompts]
    with Running(tiny) as running:
        together = [make(prompt, 20) for prompt in prompts]
        for sequence, _ in together:
            running.engine.submit(sequence)
        assert [collect(events) for _, events in together] == wanted
        assert [sequence.recalled for sequence, _ in together] == [0, *[len(COMMON)] * 3]


def test_a_gpus_cache_lends_as_well(tiny: Path) -> None:
    prompts = [[*COMMON, number, number + 1] for number in range(4)]
    with Running(tiny) as fresh:
        wanted = [fresh.answer(prompt, 20) for prompt in prompts]
    with Packed(tiny) as packed:
        recalled = []
        for count in (1, 3):  # after one that ended, and beside it
            together = [make(prompt, 20) for prompt in prompts[:count]]
            for sequence, _ in together:
                packed.engine.submit(sequence)
            assert [collect(events) for _, events in together] == wanted[:count]
            recalled.append([sequence.recalled for sequence, _ in together])
        assert recalled == [[0], [len(COMMON), *[len(COMMON)] * 2]]


def test_nobody_sees_what_others_keep_to_themselves(tiny: Path) -> None:
    with Running(tiny) as running:
        wanted = running.answer(COMMON, 5)
        for salt, recalled in (
            ("mine", 0),
            ("mine", len(COMMON) - 2),
            ("other", 0),
            ("", len(COMMON) - 2),
            (None, None),
        ):
            sequence, events = make(COMMON, 5)
            sequence.salt = salt
            running.engine.submit(sequence)
            assert collect(events) == wanted
            assert sequence.recalled == recalled


def test_the_odds_of_a_prompt_are_computed(tiny: Path) -> None:
    with Running(tiny) as running:
        wanted = running.answer(COMMON, 5)
        asking, events = make(COMMON, 5)
        asking.report = Report(prompt=True)
        running.engine.submit(asking)
        assert collect(events) == wanted
        assert asking.recalled is None and len(asking.prompt_odds) == len(COMMON) - 1


def test_what_is_kept_makes_room_for_who_runs(tiny: Path, expected: list[list[int]]) -> None:
    # The longest takes 139 positions, and all together more than there is: somebody starts over, and none fails.
    budget = 17 * KEPT_SHARE
    with Running(tiny, tokens=budget) as running:
        for _ in range(2):
            together = [make(prompt, 60) for prompt in PROMPTS]
            for sequence, _ in together:
                running.engine.submit(sequence)
            assert [collect(events) for _, events in together] == expected


def test_torch_takes_over_what_numpy_kept(tiny: Path) -> None:
    with Running(tiny) as fresh:
        wanted = fresh.answer(COMMON, 20)
    with Changing(tiny) as changing:
        for recalled in (0, len(COMMON) - 2):
            sequence, events = make(COMMON, 20)
            changing.engine.submit(sequence)
            assert collect(events) == wanted
            assert sequence.recalled == recalled
            changing.allow.set()
            changing.succession.begin()
            changing.succession._thread.join(WAIT)
        assert ("succession", 0) in changing.recorder.steps


def test_a_cache_without_memory_gives_up_what_it_keeps(tiny: Path) -> None:
    cache = quick_runner(tiny).cache
    assert cache.reserve(1, 100)
    cache.keys[0][0, :, :40] = 3.0
    cache.keep(0, COMMON[:40], "")
    cache.clear()
    healthy, failing = cache._zeros, [MemoryError(), MemoryError()]

    def zeros(shape: tuple[int, ...]) -> Any:
        if failing:
            raise failing.pop()
        return healthy(shape)

    cache._zeros = zeros
    with pytest.raises(MemoryError):
        cache.reserve(1, 100)
    assert cache.reserve(1, 100)
    assert cache.recall(0, COMMON, "", Alike(0, 0)) == 0


def test_a_kept_beginning_is_a_copy(tiny: Path) -> None:
    cache = quick_runner(tiny).cache
    assert cache.reserve(2, 100)
    cache.values[1][0, :, :40] = 3.0
    cache.keep(0, COMMON[:40], "")
    cache.values[1][0] = 9.0
    assert cache.recall(1, COMMON, "", Alike(0, 0)) == 40
    assert np.array_equal(cache.values[1][1, :, :40], np.full_like(cache.values[1][1, :, :40], 3.0))
    assert cache.recall(1, COMMON, "", Alike(0, 50)) == 50
    assert (cache.values[1][1, :, :50] == 9.0).all()


LONG = "Tides rise and fall twice a day, and nobody has to pay for the moon. " * 8


def ask(server: RuntimeProcess, **extra: Any) -> Any:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client:
        answer = client.completions.create(model="tiny", prompt=LONG, max_tokens=4, temperature=0, extra_body=extra)
    assert answer.usage is not None and answer.usage.prompt_tokens_details is not None
    return answer.choices[0].text, answer.usage.prompt_tokens_details.cached_tokens, answer.usage.prompt_tokens


def test_clients_are_told_what_was_there(tiny: Path) -> None:
    with RuntimeProcess(folder_uri(tiny), name="tiny") as server:
        server.ready()
        text, cached, prompt = ask(server)
        assert cached == 0 and prompt < PREFILL_TOKENS * 2
        assert ask(server) == (text, prompt - 2, prompt)
        assert ask(server, n=2, best_of=2) == (text, prompt - 2, prompt)
        assert ask(server, cache_salt="x") == (text, 0, prompt)
        assert server.metric("tgi_request_skipped_tokens_sum") == 3 * (prompt - 2)
        status, body = server.call("POST", "/v1/completions", {"model": "tiny", "prompt": "x", "cache_salt": 3})
        assert (status, body["error"]["param"]) == (400, "cache_salt")


def test_it_can_be_switched_off(tiny: Path) -> None:
    with RuntimeProcess(folder_uri(tiny), "--prefix-caching", "false", name="tiny") as server:
        server.ready()
        assert ask(server) == ask(server)
        assert ask(server)[1] == 0


def test_the_engine_keeps_nothing_it_may_not_share(tiny: Path) -> None:
    with Running(tiny) as running:
        sequence, events = make(COMMON, 5)
        sequence.salt = None
        running.engine.submit(sequence)
        collect(events)
        assert isinstance(running.engine, Engine)
        assert running.runner.cache._prefixes.tokens == 0
