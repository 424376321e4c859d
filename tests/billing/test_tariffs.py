"""Money that is reserved for tokens and requests: never less than the bill says, and what is used is the bill's own."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tests.billing.test_rating import gpu, index
from tests.billing.worlds import T0, attempt
from zerotide.api.base import format_micro_time
from zerotide.api.budget import Budget, BudgetSpec
from zerotide.api.quota import UNITS
from zerotide.api.scalars import HOUR, SECOND
from zerotide.billing.prices import PriceIndex
from zerotide.billing.rating import Bill, Period, bill_tokens
from zerotide.billing.rollups import counted
from zerotide.billing.tariffs import AHEAD_US, Tariff, pieces_cost, rated_periods, tariff_of, units_up

METERS = ("InputTokens", "CachedInputTokens", "OutputTokens", "Requests")


def price(meter: str, amount: str, begin: int = 0, end: int | None = None, per: str = "Thousand") -> dict[str, Any]:
    """Return a price from so many seconds after T0 on."""
    return {
        "name": f"{meter}-{begin}".lower(),
        "meter": meter,
        "amount": amount,
        "per": per,
        "validFrom": format_micro_time(T0 + begin * SECOND),
        "validTo": None if end is None else format_micro_time(T0 + end * SECOND),
    }


def spec(amount: str = "1", **scope: Any) -> BudgetSpec:
    """Return a budget of US dollars."""
    limit = {"type": "Cost", "cost": {"amount": amount, "currency": "USD"}}
    metadata = {"namespace": "demo", "name": "b", "uid": "b", "generation": 1}
    head = {"apiVersion": "zerotide.dev/v1alpha1", "kind": "Budget", "metadata": metadata}
    return Budget.parse({**head, "spec": {"limit": limit, "scope": scope, "inFlight": "End"}}).spec


amounts = st.builds(lambda whole, part: f"{whole}.{part:06d}", st.integers(0, 3), st.integers(0, 999_999))
prices = st.lists(
    st.tuples(st.sampled_from(METERS), st.integers(-100, 300), amounts, st.none() | st.integers(1, 200)),
    max_size=10,
    unique_by=lambda each: each[:2],
)


def book(given_: list[tuple[str, int, str, int | None]]) -> PriceIndex:
    """Return the index of a book with prices of tokens that begin and end at odd times, and of devices."""
    made = [price(meter, amount, at, None if last is None else at + last) for meter, at, amount, last in given_]
    return index(gpu(), *made)


@given(prices, st.lists(st.tuples(st.integers(0, 299), st.integers(0, 9), st.integers(0, 9)), max_size=9))
def test_what_is_used_is_what_the_bill_says(
    given_: list[tuple[str, int, str, int | None]], asked: list[tuple[int, int, int]]
) -> None:
    prices_, period = book(given_), Period(T0, T0 + 300 * SECOND)
    done = [
        attempt(
            end - 1, end, "demo/a" if made % 2 else "demo/b", request_id=str(n), tokens=(taken + 2, taken // 2, made)
        )
        for n, (end, taken, made) in enumerate(asked)
    ]
    parts = rated_periods(prices_, period)
    assert [low for (low, _), _ in parts[1:]] == [high for (_, high), _ in parts[:-1]], "they partition it"
    rated = [(rates, counted(each for each in done if each.finished_in(*part))) for part, rates in parts]
    bill = Bill(prices_)
    bill_tokens(bill, done, period)
    lines = bill.lines()
    assert pieces_cost(spec(), "demo", rated) == sum((line.amount for line in lines.values()), Fraction(0))
    mine = sum((line.amount for key, line in lines.items() if key.consumer == "demo/a"), Fraction(0))
    assert pieces_cost(spec(consumers=["a"]), "demo", rated) == mine


@given(prices, st.integers(-50, 300), st.integers(0, 200), st.integers(0, 99), st.integers(0, 99))
def test_a_tariff_bounds_what_is_billed_until_tomorrow(
    given_: list[tuple[str, int, str, int | None]], now: int, later: int, taken: int, made: int
) -> None:
    prices_ = book(given_)
    tariff = tariff_of(prices_, T0 + now * SECOND)
    end = now + later
    bill = Bill(prices_)
    bill_tokens(bill, [attempt(end - 1, end, tokens=(taken, taken // 3, made))], Period(0, 2**62))
    billed = sum((line.amount for line in bill.lines().values()), Fraction(0))
    assert tariff.input * taken + tariff.output * made + tariff.request >= billed * UNITS


def test_the_highest_price_of_the_next_day_is_reserved() -> None:
    prices_ = index(
        price("InputTokens", "3"),
        price("OutputTokens", "15"),
        price("OutputTokens", "20", 3600),
        price("Requests", "1"),
    )
    assert tariff_of(prices_, T0) == Tariff(3_000_000, 20_000_000, 1_000_000)
    early = T0 + 3600 * SECOND - AHEAD_US - HOUR
    assert tariff_of(prices_, early) == Tariff(0, 0, 1), "before it begins nothing costs anything"
    assert tariff_of(index(gpu()), T0) == Tariff(0, 0, 1), "who has used up all by time is refused all the same"


def test_cached_tokens_may_cost_more_than_others() -> None:
    prices_ = index(price("InputTokens", "1"), price("CachedInputTokens", "2"))
    assert tariff_of(prices_, T0 + SECOND).input == 2_000_000


def test_units_are_rounded_up() -> None:
    assert [units_up(Fraction(amount)) for amount in ("0", "0.0000000001", "1.0000000001")] == [0, 1, UNITS + 1]
    assert rated_periods(index(gpu()), Period(5, 5)) == []
