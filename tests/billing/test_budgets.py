"""Windows of budgets, what is used up of them, and what holds then."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerotide.api.budget import Budget, BudgetAction, BudgetSpec, BudgetWindow, LimitType
from zerotide.api.pricebook import Meter
from zerotide.api.scalars import HOUR, MINUTE, SECOND, parse_time
from zerotide.billing.budgets import (
    EVER,
    Spent,
    SpentKey,
    amount_text,
    standing,
    status_of,
    used,
    window_of,
    worth_writing,
)
from zerotide.billing.rating import Line, Period
from zerotide.billing.rollups import Usage, UsageKey

ZONES = ["UTC", "Europe/Rome", "America/New_York", "Asia/Kathmandu", "Australia/Lord_Howe", "America/Havana"]
INSTANTS = st.integers(parse_time("2025-01-01T00:00:00Z"), parse_time("2028-01-01T00:00:00Z"))
WINDOW = Period(0, EVER)


def spec(amount: str = "10", scope: dict[str, Any] | None = None, **fields: Any) -> BudgetSpec:
    """Return the spec of a budget of US dollars, unless told otherwise."""
    limit = {"type": "Cost", "cost": {"amount": amount, "currency": "USD"}}
    return BudgetSpec.model_validate({"scope": scope or {}, "limit": limit, **fields})


def at(text: str) -> int:
    """Return an instant."""
    return parse_time(text)


@pytest.mark.parametrize(
    ("period", "zone", "now", "start", "end"),
    [
        ("Month", "UTC", "2026-11-25T10:00:00Z", "2026-11-01T00:00:00Z", "2026-12-01T00:00:00Z"),
        ("Month", "Europe/Rome", "2026-10-31T23:30:00Z", "2026-11-01T00:00:00+01:00", "2026-12-01T00:00:00+01:00"),
        ("Month", "Europe/Rome", "2026-10-31T22:59:59Z", "2026-10-01T00:00:00+02:00", "2026-11-01T00:00:00+01:00"),
        ("Week", "UTC", "2026-11-25T10:00:00Z", "2026-11-23T00:00:00Z", "2026-11-30T00:00:00Z"),
        ("Day", "America/New_York", "2026-11-01T12:00:00Z", "2026-11-01T00:00:00-04:00", "2026-11-02T00:00:00-05:00"),
    ],
)
def test_windows_by_the_calendar(period: Any, zone: str, now: str, start: str, end: str) -> None:
    window = BudgetWindow(period=period, time_zone=zone)
    assert window_of(window, at(now)) == (at(start), at(end))


@given(INSTANTS, st.sampled_from(ZONES), st.sampled_from(["Day", "Week", "Month"]))
def test_windows_meet_and_hold_their_instants(now_us: int, zone: str, period: Any) -> None:
    window = BudgetWindow(period=period, time_zone=zone)
    found = window_of(window, now_us)
    assert found.start_us <= now_us < found.end_us
    assert window_of(window, found.start_us) == found == window_of(window, found.end_us - 1)
    assert window_of(window, found.end_us).start_us == found.end_us
    days = (found.end_us - found.start_us) / (24 * HOUR)
    assert (
        {"Day": 1, "Week": 7, "Month": 28}[period] - 1 / 20
        <= days
        <= {"Day": 1, "Week": 7, "Month": 31}[period] + 1 / 20
    )


def test_a_total_never_begins_anew() -> None:
    window = BudgetWindow(period="Total")
    assert window_of(window, 5) == window_of(window, 10**17) == (0, EVER)


SPENT: Spent = {
    SpentKey("m", "demo/a", Meter.ACCELERATOR_TIME, "USD"): Line(Fraction(90 * SECOND), Fraction(3)),
    SpentKey("m", "demo/b", Meter.ACCELERATOR_TIME, "USD"): Line(Fraction(10 * SECOND), Fraction(1)),
    SpentKey("n", "demo/a", Meter.OUTPUT_TOKENS, "USD"): Line(Fraction(7), Fraction(2)),
    SpentKey("n", "demo/a", Meter.OUTPUT_TOKENS, "EUR"): Line(Fraction(7), Fraction(100)),
}
TOKENS = {
    UsageKey("demo", "m", "demo/a"): Usage(requests=2, input=30, cached=10, output=5),
    UsageKey("demo", "n", "demo/b"): Usage(requests=1, input=1, output=1),
    UsageKey("other", "m", "demo/a"): Usage(requests=1, input=1000, output=1000),
}


@pytest.mark.parametrize(
    ("scope", "cost", "seconds", "tokens"),
    [
        ({}, 6, 100, 37),
        ({"endpoints": ["m"]}, 4, 100, 35),
        ({"consumers": ["a"]}, 5, 90, 35),
        ({"consumers": ["a"], "endpoints": ["n"]}, 2, 0, 0),
        ({"consumers": ["c"]}, 0, 0, 0),
    ],
)
def test_what_is_in_scope_counts(scope: dict[str, Any], cost: int, seconds: int, tokens: int) -> None:
    limits: list[tuple[dict[str, Any], int]] = [
        ({"type": "Cost", "cost": {"amount": "1", "currency": "USD"}}, cost),
        ({"type": "AcceleratorSeconds", "acceleratorSeconds": 1}, seconds),
        ({"type": "Tokens", "tokens": 1}, tokens),
    ]
    for limit, expected in limits:
        assert used(spec(scope=scope, limit=limit), "demo", SPENT, TOKENS) == expected


@given(st.fractions(0, 20), st.fractions(0, 20), st.integers(0, 20))
def test_more_use_never_makes_it_milder(one: Fraction, another: Fraction, limit: int) -> None:
    less, more = (standing(spec(str(limit)), WINDOW, amount) for amount in sorted((one, another)))
    order = [None, *BudgetAction]
    assert order.index(less.action) <= order.index(more.action)
    assert set(less.thresholds) <= set(more.thresholds)
    assert less.percent <= more.percent


@pytest.mark.parametrize(
    ("amount", "action", "thresholds", "state"),
    [
        ("0", None, (), "Ok"),
        ("4.999999", None, (), "Ok"),
        ("5", "Notify", (50,), "Warning"),
        ("9.99", "Notify", (50, 75, 90), "Warning"),
        ("10", "Block", (50, 75, 90, 100), "Exhausted"),
        ("25", "Block", (50, 75, 90, 100), "Exhausted"),
    ],
)
def test_thresholds(amount: str, action: str | None, thresholds: tuple[int, ...], state: str) -> None:
    found = standing(spec(), WINDOW, Fraction(amount))
    assert (found.action, found.thresholds) == (action, thresholds)
    assert status_of(budget(), found, ("USD",), 0).state == state


def test_a_limit_of_nothing_is_used_up() -> None:
    assert standing(spec("0"), WINDOW, Fraction(0)).action == "Block"


def budget(**fields: Any) -> Budget:
    """Return a budget."""
    metadata = {"namespace": "demo", "name": "month", "generation": 3}
    return Budget(api_version="zerotide.dev/v1alpha1", kind="Budget", metadata=metadata, spec=spec(**fields))  # type: ignore[arg-type]


def test_a_status_says_it_in_a_sentence() -> None:
    window = Period(at("2026-11-01T00:00:00Z"), at("2026-12-01T00:00:00Z"))
    status = status_of(budget(), standing(spec(), window, Fraction("7.5")), ("USD",), at("2026-11-25T00:00:00Z"))
    assert status.dump() == {
        "observedGeneration": 3,
        "state": "Warning",
        "action": "Notify",
        "used": "7.50 USD",
        "limit": "10.00 USD",
        "percent": 75,
        "windowStart": "2026-11-01T00:00:00Z",
        "windowEnd": "2026-12-01T00:00:00Z",
        "message": "7.50 USD of 10.00 USD are used up (75 %); it begins anew at 2026-12-01T00:00:00Z",
        "updateTime": "2026-11-25T00:00:00Z",
    }


def test_a_currency_that_nothing_is_priced_in_is_told() -> None:
    status = status_of(budget(), standing(spec(), WINDOW, Fraction(0)), ("EUR",), 0)
    assert status.state == "Unusable"
    assert status.message == ("nothing is priced in USD: the price book has EUR; give the limit in that currency")


@pytest.mark.parametrize(
    ("kind", "amount", "text"),
    [
        ("Cost", "1/3", "0.333333 U"),
        ("Cost", "12.5", "12.50 U"),
        ("AcceleratorSeconds", "90", "90 U"),
        ("AcceleratorSeconds", "90.25", "90.2 U"),
        ("Tokens", "90", "90 U"),
    ],
)
def test_amounts_are_readable(kind: str, amount: str, text: str) -> None:
    assert amount_text(LimitType(kind), Fraction(amount), "U") == text


def test_what_holds_is_written_at_once_and_mere_amounts_now_and_then() -> None:
    def of(amount: str, now_us: int = 0) -> Any:
        return status_of(budget(), standing(spec(), WINDOW, Fraction(amount)), ("USD",), now_us)

    pace = MINUTE
    assert not worth_writing(of("1"), of("1", 5), 10 * pace, pace), "nothing has changed"
    assert not worth_writing(of("1"), of("2"), pace - 1, pace)
    assert worth_writing(of("1"), of("2"), pace, pace)
    assert worth_writing(of("4"), of("5"), 0, pace), "a threshold is reached"
    assert worth_writing(of("9"), of("10"), 0, pace)
