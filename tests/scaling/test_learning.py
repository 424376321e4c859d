"""What is learned of silences, and the timeout that follows from it."""

from __future__ import annotations

import math
import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerotide.scaling.learning.base import OTHERS, WEIGHT, base_of
from zerotide.scaling.learning.choice import APART, FIRM, PATIENT, Belief, choose, expect
from zerotide.scaling.learning.gaps import EDGES, MOST, Gaps
from zerotide.scaling.learning.learner import SHORTEST_S, Learner
from zerotide.scaling.learning.prior import Prior, fit

silences = st.lists(st.floats(0, 200_000), max_size=60)
short = st.lists(st.floats(0, EDGES[-1]), max_size=60)
shares = st.one_of(
    st.just(()),
    st.integers(0, len(EDGES) - 1).map(lambda bin_: tuple(float(index == bin_) for index in range(len(EDGES)))),
)
priors = st.builds(Prior, st.floats(0.3, 10), st.floats(1, 100_000), shares)
break_evens = st.floats(0.01, 50_000)


def learned(lengths: list[float]) -> Gaps:
    """Return the gaps of these lengths."""
    gaps = Gaps()
    for length in lengths:
        gaps.add(length)
    return gaps


def belief(gaps: Gaps, prior: Prior, kind: Gaps | None = None) -> Belief:
    """Return what is believed of the next silence."""
    return Belief(base_of(prior), gaps, kind)


@given(lengths=silences, kind=st.none() | silences, prior=priors, break_even=break_evens)
def test_no_other_timeout_is_expected_to_cost_less(
    lengths: list[float], kind: list[float] | None, prior: Prior, break_even: float
) -> None:
    """Among the ends of all bins up to what is earned, and sleeping at once, whose cost is break-even itself."""
    believed = belief(learned(lengths), prior, None if kind is None else learned(kind))
    choice, longest = choose(believed, break_even), break_even * believed.patience(break_even)
    assert 0 <= choice.timeout_s <= longest and choice.cost_s <= break_even
    assert 0 <= choice.cold_share <= 1 + 1e-9 and choice.idle_s >= 0
    for edge in EDGES:
        if edge <= longest:
            other = expect(believed, break_even, edge)
            assert choice.cost_s <= other.cost_s * (1 + 1e-9)
            assert other.idle_s <= edge * (1 + 1e-9)


@given(lengths=silences, prior=priors, break_even=break_evens)
def test_no_silence_costs_more_than_its_price_and_what_is_earned(
    lengths: list[float], prior: Prior, break_even: float
) -> None:
    """Whatever comes: twice what one who knows would pay, and three times where enough silences outlived break-even."""
    timeout = choose(belief(learned(lengths), prior), break_even).timeout_s
    times = 1 + min(max(sum(length > break_even for length in lengths) / FIRM, 1), PATIENT)
    for gap in (0.0, timeout, math.nextafter(timeout, math.inf), 10 * break_even + 1):
        paid = min(gap, timeout) + (break_even if gap > timeout else 0)
        known = min(gap, break_even)
        if gap > timeout and timeout:
            assert paid <= times * max(known, break_even)
        else:
            assert paid <= (times - 1) * max(known, break_even) + 1e-9


@given(
    often=st.lists(st.tuples(st.floats(0, 200_000), st.integers(1, 200)), max_size=8),
    kind=st.none() | silences,
    prior=priors,
    break_even=break_evens,
)
def test_patience_is_earned(
    often: list[tuple[float, int]], kind: list[float] | None, prior: Prior, break_even: float
) -> None:
    """A timeout outlives break-even only where enough silences of its kind did, and never two of them."""
    gaps = learned([length for length, count in often for _ in range(count)])
    believed = belief(gaps, prior, None if kind is None else learned(kind))
    choice = choose(believed, break_even)
    patience = believed.patience(break_even)
    assert 1 <= patience <= PATIENT
    assert choice.timeout_s <= break_even * patience and choice.cost_s <= break_even
    ours = [length for length, count in often for _ in range(count)] if kind is None else kind
    if sum(length > break_even for length in ours) <= FIRM:
        assert choice.timeout_s <= break_even
    for edge in EDGES:
        if edge <= break_even * patience:
            assert choice.cost_s <= expect(believed, break_even, edge).cost_s * (1 + 1e-9)


@pytest.mark.parametrize("shape", [0.3, 1 - 1e-7, 1.0, 1 + 1e-13, 1 + 1e-7, 2.0, 10.0])
def test_the_mean_of_what_nobody_saw_is_the_integral_of_its_survival(shape: float) -> None:
    """At every shape; at 1 the formula has a limit and no value."""
    base, total, since = base_of(Prior(shape, 55.0), 1.0, 0.0), 0.0, 0.0
    for edge, outlive, until_s in zip(EDGES, base.outlive, base.until_s, strict=True):
        assert outlive == pytest.approx((55 / (55 + edge)) ** shape)
        steps = [since + (edge - since) * (step + 0.5) / 50 for step in range(50)]
        total += (edge - since) / 50 * sum((55 / (55 + step)) ** shape for step in steps)
        since = edge
        assert until_s == pytest.approx(total, rel=1e-4)


@pytest.mark.parametrize(("longer", "patience"), [(63, 1.0), (64, 1.0), (96, 1.5), (128, 2.0), (900, 2.0)])
def test_how_much_patience_so_many_silences_earn(longer: int, patience: float) -> None:
    """As the documentation has it: none up to 64 that were longer, and the double at most."""
    assert belief(learned([500.0] * longer + [3.0] * 400), Prior()).patience(100.0) == patience


def test_who_comes_without_memory_but_often_enough_is_waited_for() -> None:
    """At break-even the next request is as near as ever: to sleep just then is to have waited for nothing."""
    source = random.Random(7)
    gaps = learned([source.expovariate(1 / 100) for _ in range(1_000)])
    patient, firm = choose(belief(gaps, Prior()), 150), expect(belief(gaps, Prior()), 150, 150)
    assert 250 < patient.timeout_s <= PATIENT * 150 and patient.cost_s < 0.95 * firm.cost_s


@given(lengths=silences)
def test_a_restart_forgets_nothing_that_matters(lengths: list[float]) -> None:
    """Bins and their counts are all that is kept; lengths come back to within a bin."""
    gaps = learned(lengths)
    again = Gaps(gaps.filled())
    assert again.counts == gaps.counts and again.seen == gaps.seen
    for index in range(1, len(EDGES) - 1):
        low, high = EDGES[index - 1] * again.counts[index], EDGES[index] * again.counts[index]
        assert low <= again.totals[index] <= high and low * 0.999 <= gaps.totals[index] <= high * 1.001


def test_memory_is_bounded_and_what_is_old_fades() -> None:
    """After a change of habits as many silences again are enough to follow it."""
    gaps = learned([10.0] * int(MOST + 1))
    assert gaps.seen <= MOST / 2 + 1
    for _ in range(3 * int(MOST)):
        gaps.add(1_000.0)
    assert gaps.seen <= MOST + 1 and gaps.longer_than(100) > 0.9 * gaps.seen
    assert math.isclose(gaps.total_s, sum(gaps.totals)) and math.isclose(gaps.seen, sum(gaps.counts))


def test_bad_input_counts_as_nothing() -> None:
    """A clock that was set back, a status that somebody edited."""
    gaps = Gaps([(-1, 5.0), (10_000, 5.0), (3, -2.0), (4, 1.0)])
    gaps.add(-3.0)
    assert gaps.filled() == [(4, 1.0)]


def test_a_timer_is_waited_for_or_slept_through() -> None:
    """By what a cold start is worth; waiting for a part of the period is never worth anything."""
    gaps = learned([300.0 + step % 7 for step in range(100)])
    patient = choose(belief(gaps, Prior()), 2_000)
    assert patient.timeout_s >= 306 and patient.cost_s < 345
    assert choose(belief(gaps, Prior()), 200).timeout_s == 0


def test_of_silences_without_memory_all_or_nothing_is_learned() -> None:
    """For Poisson arrivals no timeout between the two is best."""
    source = random.Random(7)
    gaps = learned([source.expovariate(1 / 100) for _ in range(3_000)])
    assert choose(belief(gaps, Prior()), 50).timeout_s < 1.5
    patient = choose(belief(gaps, Prior()), 1_000)
    assert patient.cold_share < 0.01 and 80 < patient.cost_s < 125


@given(prior=priors, break_even=break_evens)
def test_without_history_the_base_decides(prior: Prior, break_even: float) -> None:
    """And it is finite, also where the base has no mean."""
    choice = choose(belief(Gaps(), prior), break_even)
    assert math.isfinite(choice.cost_s) and choice.timeout_s <= break_even


def test_a_new_endpoint_is_believed_to_be_like_the_others() -> None:
    """One busy endpoint among them does not rule the prior, and one alone gives none."""
    quiet = [learned([2_000.0] * 5), learned([1_000.0] * 9), learned([4_000.0] * 3)]
    busy = learned([2.0] * 1_000)
    assert fit([busy]) == Prior() == fit([])
    prior = fit(quiet)
    assert 1_000 < prior.scale_s / prior.shape < 4_000
    assert math.isclose(sum(prior.shares), 1) and len(prior.shares) == len(EDGES)
    mixed = fit([*quiet, busy], [2.0, 4.0])
    assert math.isclose(mixed.shares[EDGES.index(2.0)], 1 / 4) and mixed.waiting == 3.0
    assert mixed.shape < prior.shape and mixed.scale_s / mixed.shape > 100
    assert fit([learned([10.0, 10.0]), learned([10.0, 10.0])]).shape == 10.0


@given(lengths=short, kind=short, prior=priors)
def test_a_belief_is_a_distribution(lengths: list[float], kind: list[float], prior: Prior) -> None:
    """Fewer silences outlive a longer time, and the mean up to it grows by no more than the time."""
    edges = list(belief(learned(lengths), prior, learned(kind)).at_edges())
    assert [edge for edge, _, _ in edges] == list(EDGES)
    for (low, before, until), (high, after, further) in pairwise(edges):
        assert -1e-9 <= after <= before + 1e-9 <= 1 + 2e-9
        assert until * (1 - 1e-9) - 1e-9 <= further <= (until + (high - low) * before) * 1.1 + 1e-9


def test_what_others_saw_counts_until_there_is_a_history() -> None:
    """As many silences of theirs as were chosen, and some of the tail beyond them."""
    prior = Prior(shares=tuple(float(edge == 64) for edge in EDGES))
    base = base_of(prior)
    assert base.weight == WEIGHT + OTHERS and base_of(Prior()).weight == WEIGHT
    assert base.outlive[EDGES.index(32)] > OTHERS > base.outlive[EDGES.index(64)]
    assert 50 < choose(belief(Gaps(), prior), 300).timeout_s <= 64
    assert choose(belief(learned([1_000.0] * 60), prior), 300).timeout_s == 0


def test_the_silence_after_a_wake_is_another() -> None:
    """Where enough were seen they count alone; before, all silences stand in for them."""
    gaps, kind = learned([20.0] * 900 + [5_000.0] * 100), learned([5_000.0] * 500)
    assert choose(belief(gaps, Prior()), 100).timeout_s > 19
    assert choose(belief(gaps, Prior(), kind), 100).timeout_s == 0
    few = learned([5_000.0] * int(APART / 10))
    assert choose(belief(gaps, Prior(), few), 100).timeout_s > 19


def test_the_learner_tells_the_silence_after_a_wake_from_others() -> None:
    """Until it is over, or a report was missing."""
    learner = Learner(Prior(), 10.0, 7.0)
    for gap in (20.0,) * 200:
        learner.silence(gap)
    for _ in range(200):
        learner.woke(10.0)
        learner.silence(9_000.0)
        learner.silence(20.0)
    assert (learner.after_wakes.seen, learner.gaps.seen) == (200, 600)
    assert learner.timeout_s > 19
    learner.woke(10.0)
    assert learner.timeout_s == SHORTEST_S
    learner.lost()
    learner.silence(5.0)
    assert learner.after_wakes.seen == 200 and learner.timeout_s > 19


def test_the_learner_pays_for_all_that_wait() -> None:
    """Many that come during a load make a cold start dearer, so more idle time is worth it."""
    learner = Learner(Prior(), 30.0, 2.0)
    before = learner.break_even_s
    assert before == 30 * 3
    for _ in range(100):
        learner.woke(30 * 11)
    assert 30 * 19 < learner.break_even_s < 30 * 23
    learner.woke(0.0)
    assert learner.waiting.mean >= 1
    others = Learner(Prior(waiting=5.0), 30.0, 2.0)
    assert others.break_even_s == 30 * 11
    others.price(Prior(waiting=3.0), 30.0, 2.0)
    assert others.break_even_s == 30 * 7


@given(lengths=silences.filter(bool), cold=st.floats(0.1, 600), worth=st.floats(0, 40))
def test_time_that_is_paid_for_anyway_is_no_cost_of_a_cold_start(
    lengths: list[float], cold: float, worth: float
) -> None:
    """So break-even lies between the waiting alone, for who never sleeps, and the load with it, for who always does."""
    learner = Learner(Prior(), cold, worth)
    for length in lengths:
        learner.silence(length)
    assert learner.choice.break_even_s <= learner.worst_s
    assert 0 <= learner.paid <= 1 and learner.break_even_s >= cold * (worth - 1e-9)


def test_no_rule_does_better_on_memoryless_silences() -> None:
    """It stays awake where the waiting of the next request costs more than the idle time until it, and only there."""
    source = random.Random(7)
    for waiting, awake in ((80.0, False), (130.0, True)):
        learner = Learner(Prior(), 40.0, waiting / 40)
        for _ in range(3_000):
            learner.silence(source.expovariate(1 / 100))
            learner.choice  # noqa: B018 - each look takes the last one's costs for what time costs
        assert (learner.timeout_s > 30) is awake


def test_the_learner_changes_its_mind() -> None:
    """At once while it knows little; seldom, but surely, once it knows much."""
    learner = Learner(Prior(), 10.0, 4.0)
    first = learner.choice
    assert learner.choice is first
    for _ in range(500):
        learner.silence(40.0)
    assert 40 <= learner.choice.timeout_s <= 50
    for _ in range(2_000):
        learner.silence(5_000.0)
    assert learner.choice.timeout_s == 0
