"""Choosing tokens: greedy, penalties, truncation, and draws that depend on their own seed alone."""

from __future__ import annotations

import math
from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from zerotide_runtime.engine.request import Event, Sampling, Sequence
from zerotide_runtime.engine.sampler import sample
from zerotide_runtime.engine.text import Detokeniser, StopStrings

from .test_text import Bytes


def sequence(sampling: Sampling, prompt: list[int] | None = None, answer: list[int] | None = None) -> Sequence:
    def ignore(event: Event) -> None:
        del event

    made = Sequence(prompt or [0], 10, frozenset(), sampling, StopStrings(), Detokeniser(Bytes()), ignore)
    made.answer = answer or []
    return made


LOGITS = [1.0, 3.0, 2.0, -1.0]


def test_greedy_takes_the_likeliest_and_says_how_likely() -> None:
    ((token, logprob),) = sample(torch.tensor([LOGITS]), [sequence(Sampling())])
    assert token == 1
    assert logprob == pytest.approx(torch.tensor(LOGITS).log_softmax(0)[1].item())


def draws(sampling: Sampling, count: int = 2000) -> Counter[int]:
    drawn = sequence(sampling)
    return Counter(sample(torch.tensor([LOGITS]), [drawn])[0][0] for _ in range(count))


def test_draws_follow_the_odds() -> None:
    odds = (torch.tensor(LOGITS) / 0.7).softmax(0).tolist()
    counts = draws(Sampling(temperature=0.7, seed=1))
    for token, share in enumerate(odds):
        assert abs(counts[token] / 2000 - share) < 0.04


def test_top_k_leaves_the_k_likeliest() -> None:
    assert draws(Sampling(temperature=5.0, top_k=2, seed=2)).keys() == {1, 2}
    assert draws(Sampling(temperature=5.0, top_k=1, seed=2), 50).keys() == {1}


def test_top_p_leaves_the_fewest_that_reach_it() -> None:
    assert draws(Sampling(temperature=1.0, top_p=0.6, seed=3), 200).keys() == {1}
    assert draws(Sampling(temperature=1.0, top_p=0.8, seed=3)).keys() == {1, 2}
    assert draws(Sampling(temperature=1.0, top_p=0.0, seed=3), 50).keys() == {1}


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**64), st.integers(0, 5))
def test_a_draw_depends_on_its_own_seed_and_not_on_its_neighbours(seed: int, neighbours: int) -> None:
    wanted = Sampling(temperature=1.3, top_k=3, seed=seed)
    alone = sequence(wanted)
    crowd = [sequence(wanted), *(sequence(Sampling(temperature=0.9, seed=n)) for n in range(neighbours))]
    for _ in range(5):
        expected = sample(torch.tensor([LOGITS]), [alone])[0]
        assert sample(torch.tensor([LOGITS] * len(crowd)), crowd)[0] == expected


def chosen_logits(sampling: Sampling, prompt: list[int], answer: list[int]) -> torch.Tensor:
    logits = torch.tensor([LOGITS])
    sample(logits, [sequence(sampling, prompt, answer)])
    return logits[0]


def test_repetition_penalty_counts_prompt_and_answer() -> None:
    changed = chosen_logits(Sampling(repetition_penalty=2.0), [3], [1, 1])
    assert changed.tolist() == [1.0, 1.5, 2.0, -2.0]


def test_frequency_and_presence_count_the_answer_alone() -> None:
    changed = chosen_logits(Sampling(frequency_penalty=0.5, presence_penalty=0.25), [0, 0], [1, 1, 2])
    assert changed.tolist() == [1.0, 3.0 - 1.25, 2.0 - 0.75, -1.0]


def test_the_smallest_temperatures_are_greedy() -> None:
    ((token, logprob),) = sample(torch.tensor([LOGITS]), [sequence(Sampling(temperature=1e-30))])
    assert token == 1
    assert math.isfinite(logprob)
