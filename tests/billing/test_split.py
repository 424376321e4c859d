"""Shares of a batch: exact, equal at each instant, and rounded only once."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from tests.billing.worlds import T0, instants, spans
from zerotide.billing.spans import Span, clip, total_us, union
from zerotide.billing.split import Flight, apportion, split_active, split_flights

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


works = st.lists(st.tuples(st.sampled_from("abc"), spans, st.integers(1, 5000)), max_size=12)


def by_work(requests: list[Flight], start: int, end: int) -> dict[str, Fraction]:
    """Share out microsecond by microsecond, by tokens per microsecond of each flight."""
    shares: dict[str, Fraction] = {}
    for t in range(start, end):
        present = [
            (each.consumer, Fraction(each.work, each.span.length_us))
            for each in requests
            if each.span.start_us <= t < each.span.end_us
        ]
        whole = sum((weight for _, weight in present), Fraction(0))
        for who, weight in present:
            shares[who] = shares.get(who, Fraction(0)) + weight / whole
    return shares


@given(works, instants, instants)
def test_shares_by_work_sum_to_the_whole_and_stay_far_within_one_unit(
    flown: list[tuple[str, Span, int]], one: int, other: int
) -> None:
    start, end = sorted((one, other))
    requests = [Flight(*each) for each in flown]
    shares, ideal = split_flights(requests, start, end), by_work(requests, start, end)
    assert sum(shares.values()) == total_us(union(clip((each.span for each in requests), start, end)))
    nothing = Fraction(0)
    assert all(abs(shares.get(who, nothing) - ideal.get(who, nothing)) < Fraction(1, 1000) for who in "abc")
    assert split_flights(requests[::-1], start, end) == shares


def test_twice_the_tokens_pay_twice_the_time() -> None:
    span = Span(T0, T0 + 9)
    by_tokens = split_flights([Flight("a", span, 200), Flight("b", span, 100)], T0, T0 + 9)
    assert apportion(by_tokens) == {"a": 6, "b": 3}
    assert set(split_flights([Flight("a", span), Flight("b", span)], T0, T0 + 9).values()) == {Fraction(9, 2)}


def test_a_batch_of_k_pays_for_one_device() -> None:
    batch = [(who, Span(T0, T0 + 9)) for who in "abc"]
    assert split_active(batch, T0, T0 + 9) == {"a": 3, "b": 3, "c": 3}
    assert apportion({"a": Fraction(1, 3), "b": Fraction(1, 3), "c": Fraction(1, 3)}) == {"a": 1, "b": 0, "c": 0}


def test_nobody_in_flight_shares_nothing() -> None:
    assert split_active([], T0, T0 + 9) == {}
    assert apportion({}) == {}
