"""Shares of a batch: exact, equal at each instant, and rounded only once."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from tests.billing.worlds import T0, instants, spans
from zerotide.billing.spans import Span, clip, total_us, union
from zerotide.billing.split import apportion, split_active

flights = st.lists(st.tuples(st.sampled_from("abc"), spans), max_size=12)
parts = st.dictionaries(st.integers(0, 9), st.fractions(0, 1000, max_denominator=97), max_size=8)


def by_instants(requests: list[tuple[str, Span]], start: int, end: int) -> dict[str, Fraction]:
    """Share out microsecond by microsecond: slow, and obviously right."""
    shares: dict[str, Fraction] = {}
    for t in range(start, end):
        present = [who for who, span in requests if span.start_us <= t < span.end_us]
        for who in present:
            shares[who] = shares.get(who, Fraction(0)) + Fraction(1, len(present))
    return shares


@given(flights, instants, instants)
def test_shares_are_those_of_every_single_microsecond(requests: list[tuple[str, Span]], one: int, other: int) -> None:
    start, end = sorted((one, other))
    shares = split_active(requests, start, end)
    assert {who: share for who, share in shares.items() if share} == by_instants(requests, start, end)
    assert sum(shares.values()) == total_us(union(clip((span for _, span in requests), start, end)))


@given(flights, st.lists(instants, min_size=2, max_size=6))
def test_shares_of_parts_add_up_to_shares_of_the_whole(requests: list[tuple[str, Span]], cuts: list[int]) -> None:
    cuts.sort()
    whole = split_active(requests, cuts[0], cuts[-1])
    summed: dict[str, Fraction] = {}
    for low, high in pairwise(cuts):
        for who, share in split_active(requests, low, high).items():
            summed[who] = summed.get(who, Fraction(0)) + share
    assert {who: share for who, share in summed.items() if share} == {
        who: share for who, share in whole.items() if share
    }


@given(parts)
def test_rounded_parts_sum_to_the_rounded_whole_and_stay_within_one_unit(exact: dict[int, Fraction]) -> None:
    rounded = apportion(exact)
    assert sum(rounded.values()) == round(sum(exact.values()))
    assert all(abs(rounded[who] - exact[who]) < 1 for who in exact)


def test_a_batch_of_k_pays_for_one_device() -> None:
    batch = [(who, Span(T0, T0 + 9)) for who in "abc"]
    assert split_active(batch, T0, T0 + 9) == {"a": 3, "b": 3, "c": 3}
    assert apportion({"a": Fraction(1, 3), "b": Fraction(1, 3), "c": Fraction(1, 3)}) == {"a": 1, "b": 0, "c": 0}


def test_nobody_in_flight_shares_nothing() -> None:
    assert split_active([], T0, T0 + 9) == {}
    assert apportion({}) == {}
