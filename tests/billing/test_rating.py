"""Money: exact until it is rounded, once."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.billing.worlds import T0, attempt, busy, life, pod_facts
from zerotide.api.scalars import HOUR, SECOND, format_micro_time
from zerotide.billing.errors import InvalidPeriod
from zerotide.billing.facts import SOURCE_NODE, Accelerator, Allocation, Fact
from zerotide.billing.fold import fold
from zerotide.billing.prices import Meter, PriceIndex, read_price_book
from zerotide.billing.rating import (
    Bill,
    Period,
    Rate,
    bill_lifetime,
    bill_tokens,
    rates_of,
    round_lines,
    round_money,
)
from zerotide.billing.spans import Span
from zerotide.billing.split import Flight

EVER = Period(0, T0 + 10_000 * SECOND)


def gpu(amount: str = "0.0014", name: str = "a100", begin: int = 0, **fields: Any) -> dict[str, Any]:
    """Return the price of an A100 second from an instant on."""
    return {
        "name": name,
        "meter": "AcceleratorTime",
        "acceleratorClassName": "nvidia-a100-80gb",
        "amount": amount,
        "per": "Second",
        "validFrom": format_micro_time(begin or SECOND),
        **fields,
    }


def index(*prices: dict[str, Any], **fields: Any) -> PriceIndex:
    """Return the index of a price book."""
    return PriceIndex(read_price_book({"currency": "USD", "prices": list(prices), **fields}))


def rated(
    facts: list[Fact],
    prices: PriceIndex,
    period: Period = EVER,
    flights: list[tuple[str, Span]] | None = None,
    as_of: int = T0 + 10_000 * SECOND,
) -> Bill:
    """Return the bill of one pod."""
    bill = Bill(prices)
    folded = fold(facts, (span for _, span in flights or ()), as_of_us=as_of)
    if folded is not None:
        flown = sorted((Flight(*each) for each in flights or ()), key=lambda each: each.span)
        bill_lifetime(bill, folded, flown, "demo/owner", period)
    return bill


def total(bill: Bill) -> Fraction:
    """Return the exact sum of a bill."""
    return sum((line.amount for line in bill.lines().values()), Fraction(0))


def test_cached_tokens_have_their_own_price_and_broken_attempts_none() -> None:
    entries = [
        {"name": name, "meter": meter, "amount": amount, "per": "One", "validFrom": "2020-01-01T00:00:00Z"}
        for name, meter, amount in (
            ("in", "InputTokens", "1"),
            ("cached", "CachedInputTokens", "0.1"),
            ("out", "OutputTokens", "2"),
            ("each", "Requests", "100"),
        )
    ]
    bill = Bill(index(*entries))
    attempts = [
        attempt(0, 1, tokens=(10, 4, 3)),
        attempt(0, 1, tokens=(10, 4, 3), outcome="lost"),
        attempt(0, None, tokens=(10, 4, 3)),
    ]
    bill_tokens(bill, attempts, EVER)
    assert total(bill) == 6 + Fraction(4, 10) + 6 + 100


def test_a_cpu_endpoint_is_billed_by_core_and_memory_and_a_gpu_endpoint_by_device() -> None:
    cpu = Allocation("", 0, 500, 2**31)
    assert [(rate.meter, rate.quantity) for rate in rates_of(cpu, None)] == [
        (Meter.CPU_TIME, Fraction(1, 2)),
        (Meter.MEMORY_TIME, 2),
    ]
    both = Allocation("nvidia.com/gpu", 2, 500, 2**31)
    rate, *none = rates_of(both, Accelerator(SOURCE_NODE, "nvidia-l4"))
    assert rate == Rate(Meter.ACCELERATOR_TIME, "nvidia-l4", Fraction(2))
    assert not none
    assert rates_of(both, None, "default")[0].class_name == "default"


def test_blocked_time_is_counted_and_free() -> None:
    facts = life(scheduled=0, backoff=10, delete=60, finished=60)
    bill = rated(facts, index(gpu()))
    by_phase = {key.phase: line for key, line in bill.lines().items()}
    assert by_phase["blocked"].quantity == 50 * SECOND
    assert by_phase["blocked"].amount == 0
    assert total(bill) == 10 * Fraction("0.0014")


def test_an_unpriced_device_is_counted_and_costs_nothing() -> None:
    bill = rated(life(scheduled=0, finished=60, class_name="unknown"), index(gpu()))
    (key,) = bill.lines()
    assert (key.class_name, key.price) == ("unknown", "")
    assert bill.lines()[key].quantity == 60 * SECOND
    assert total(bill) == 0


@given(pod_facts(), busy, st.lists(st.integers(T0 - 5, T0 + 310), min_size=2, max_size=6))
def test_bills_of_parts_add_up_to_the_bill_of_the_whole(facts: list[Fact], spans: list[Span], cuts: list[int]) -> None:
    prices = index(gpu(), gpu("0.0021", "raised", T0 + 50), gpu("0.0007", "sale", T0 + 120))
    flights = [("demo/ab"[: 6 + number % 2], span) for number, span in enumerate(spans)]
    facts = [*facts, *life(scheduled=0)[3:]]
    cuts.sort()
    parts = [rated(facts, prices, Period(low, high), flights, T0 + 300) for low, high in pairwise(cuts)]
    whole = rated(facts, prices, Period(cuts[0], cuts[-1]), flights, T0 + 300)
    assert sum(map(total, parts)) == total(whole)


@given(busy, st.integers(1, 250))
def test_a_price_change_splits_time_exactly(spans: list[Span], edge: int) -> None:
    facts = life(scheduled=0, started=0.00001, ready=0.00002, finished=0.0002)
    flights = [(f"demo/{number % 2}", span) for number, span in enumerate(spans)]
    bill = rated(facts, index(gpu("1"), gpu("3", "raised", T0 + edge)), flights=flights)
    low = min(edge, 200)
    assert total(bill) == Fraction(low * 1 + (200 - low) * 3, SECOND)


amounts = st.dictionaries(st.integers(0, 30), st.fractions(0, 100, max_denominator=10_000), max_size=12)


@given(amounts, st.integers(0, 8))
def test_rounded_lines_add_up_to_the_rounded_total(exact: dict[int, Fraction], places: int) -> None:
    rounded = round_lines(exact, places)
    assert sum(rounded.values()) == round_money(sum(exact.values(), Fraction(0)), places)
    assert all(abs(Fraction(rounded[key]) - exact[key]) < Fraction(1, 10**places) for key in exact)


@given(amounts, st.randoms())
def test_the_order_of_lines_changes_no_amount_by_more_than_a_tie(exact: dict[int, Fraction], rng: Any) -> None:
    keys = list(exact)
    rng.shuffle(keys)
    shuffled = round_lines({key: exact[key] for key in keys})
    assert sum(shuffled.values()) == sum(round_lines(exact).values())


def test_a_period_runs_forward() -> None:
    with pytest.raises(InvalidPeriod, match="swap from and to"):
        Period(2, 1).checked()
    assert Period(1, 1 + HOUR).checked() == (1, 1 + HOUR)
