"""Choosing tokens: greedy, penalties, truncation, and draws that depend on their own seed alone."""

from __future__ import annotations

import math
from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from zerotide_runtime.engine.request import Event, FailureEvent, Report, Sampling, Sequence, TokenEvent
from zerotide_runtime.engine.sampler import sample, score
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
    ((token, logprob, _),) = sample(torch.tensor([LOGITS]), [sequence(Sampling())])
    assert token == 1
    assert logprob == pytest.approx(torch.tensor(LOGITS).log_softmax(0)[1].item())


@settings(deadline=None)
@given(st.integers(0, 1 << 30), st.permutations(range(5)))
def test_who_shares_a_batch_changes_nothing(seed: int, order: list[int]) -> None:
    torch.manual_seed(seed)
    logits = torch.randn(5, 300) * 5
    kinds = [Sampling(), Sampling(temperature=0.8, seed=4), Sampling(frequency_penalty=2.0), Sampling(), Sampling()]

    def made(row: int) -> Sequence:
        asked = sequence(kinds[row], answer=[int(logits[row].argmax())])
        asked.report = Report(top=2 if row == 3 else 0, raw=row == 4)
        return asked

    together = sample(logits[order].clone(), [made(row) for row in order])
    for row, choice in zip(order, together, strict=True):
        (alone,) = sample(logits[row : row + 1].clone(), [made(row)])
        assert (choice.token, len(choice.top)) == (alone.token, len(alone.top))
        assert choice.logprob == pytest.approx(alone.logprob, abs=1e-5)
    for row in (0, 3, 4):
        choice = together[order.index(row)]
        assert choice.token == int(logits[row].argmax())
        assert choice.logprob == pytest.approx(float(logits[row].log_softmax(0).max()), abs=1e-5)


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
    ((token, logprob, _),) = sample(torch.tensor([LOGITS]), [sequence(Sampling(temperature=1e-30))])
    assert token == 1
    assert math.isfinite(logprob)


def test_a_bias_lifts_or_bans_a_token() -> None:
    assert sample(torch.tensor([LOGITS]), [sequence(Sampling(bias=((3, 100.0),)))])[0].token == 3
    assert draws(Sampling(temperature=1.0, bias=((1, -100.0),), seed=4), 300).keys() == {0, 2, 3}


def test_typical_p_leaves_what_surprises_as_usual() -> None:
    # The likeliest token surprises less than the average of all, by more than the others surprise more.
    logits = torch.tensor([0.4, *[0.1] * 6]).log()
    drawn = sequence(Sampling(temperature=1.0, typical_p=0.4, seed=5))
    tokens = {sample(logits[None].clone(), [drawn])[0].token for _ in range(200)}
    assert 0 not in tokens
    assert 4 <= len(tokens) <= 5
    whole = sequence(Sampling(temperature=1.0, typical_p=0.99, seed=5))
    assert 0 in {sample(logits[None].clone(), [whole])[0].token for _ in range(200)}


def test_the_likeliest_are_told_under_the_odds_asked_for() -> None:
    drawn = sequence(Sampling(temperature=0.5, top_k=2, seed=6))
    drawn.report = Report(top=3)
    told = sample(torch.tensor([LOGITS]), [drawn])[0]
    odds = (torch.tensor([3.0, 2.0]) / 0.5).log_softmax(0).tolist()
    assert [token for token, _ in told.top] == [1, 2], "what top_k rules out has no odds"
    assert [value for _, value in told.top] == pytest.approx(odds)
    drawn.report = Report(top=3, raw=True)
    told = sample(torch.tensor([LOGITS]), [drawn])[0]
    plain = torch.tensor(LOGITS).log_softmax(0).tolist()
    assert [token for token, _ in told.top] == [1, 2, 0]
    assert [value for _, value in told.top] == pytest.approx([plain[1], plain[2], plain[0]])
    assert told.logprob == pytest.approx(plain[told.token])


def test_given_tokens_are_scored() -> None:
    plain = torch.tensor(LOGITS).log_softmax(0).tolist()
    first, second = score(torch.tensor([LOGITS, LOGITS]), [3, 0], 1)
    assert (first.token, second.token) == (3, 0)
    assert (first.logprob, second.top[0][1]) == pytest.approx((plain[3], plain[1]))


class Only:
    """A grammar of one token at a time."""

    def __init__(self, *tokens: int, error: str = "") -> None:
        self._tokens = list(tokens)
        self.error = error

    def allowed(self) -> bytes | None:
        return bytes([1 << self._tokens[0]])

    def accept(self, token: int) -> bool:
        assert token == self._tokens.pop(0)
        return not self._tokens


def test_a_grammar_rules_out_everything_else_and_ends_the_answer() -> None:
    bound = sequence(Sampling())
    bound.constraint = Only(3, 0)
    free = sequence(Sampling())
    choices = sample(torch.tensor([LOGITS, LOGITS]), [bound, free])
    assert [choice.token for choice in choices] == [3, 1], "its neighbour is free"
    event = bound.accept(choices[0])
    assert isinstance(event, TokenEvent)
    assert event.finish is None
    event = bound.accept(sample(torch.tensor([LOGITS]), [bound])[0])
    assert isinstance(event, TokenEvent)
    assert event.finish is not None
    assert event.finish.end_token


def test_a_vocabulary_that_is_wider_than_the_grammar_knows() -> None:
    bound = sequence(Sampling(bias=((9, 50.0),)))
    bound.constraint = Only(2)
    assert sample(torch.tensor([LOGITS * 3]), [bound])[0].token == 2


def test_a_grammar_that_breaks_down_fails_its_own_request() -> None:
    bound = sequence(Sampling())
    bound.constraint = Only(3, error="too complex")
    event = bound.accept(sample(torch.tensor([LOGITS]), [bound])[0])
    assert event == FailureEvent("too complex")


def test_a_watermark_favours_half_of_the_tokens_anew_after_each() -> None:
    def green(last: int) -> set[int]:
        marked = sequence(Sampling(watermark=True), [last])
        logits = torch.zeros(1, 64)
        sample(logits, [marked])
        return {token for token, value in enumerate(logits[0].tolist()) if value == 2.0}

    assert len(green(1)) == 32
    assert green(1) == green(1) != green(2)
