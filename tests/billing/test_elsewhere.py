"""What others would ask for a workload: for the same replicas, or for its tokens."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerotide.api.pricebook import PriceBookSpec
from zerotide.api.scalars import parse_time
from zerotide.billing.elsewhere import Devices, even_rate, offers
from zerotide.billing.prices import PriceIndex
from zerotide.scaling.compare import MONTH_H, MONTH_S, Way, Workload
from zerotide.scaling.replay.fleet import Served
from zerotide.scaling.replay.trace import Arrivals

NOW = parse_time("2026-11-26T00:00:00Z")
WORKLOAD = Workload("w", Arrivals((0.0, 60.0), (1.0, 1.0)), MONTH_S / 2, 3_000_000, 1_000_000)
ALWAYS = Way("always on", Served(MONTH_S / 2, 0, 0, (0.0, 0.0)), math.inf)
SLEEPS = Way("sleeps after 5m", Served(1_000.0, 2, 2, (30.0, 30.0)), 300.0)


def price(name: str, meter: str, amount: str, per: str, **more: str) -> dict[str, str]:
    """Return a price as a file has it."""
    return {"name": name, "meter": meter, "amount": amount, "per": per, "validFrom": "2026-01-01T00:00:00Z", **more}


def device(amount: str, per: str, **more: str) -> dict[str, str]:
    """Return a device's price."""
    return price("gpu", "AcceleratorTime", amount, per, acceleratorClassName="gpu-a", **more)


def book(*prices: dict[str, str]) -> PriceIndex:
    """Return a book."""
    return PriceIndex(PriceBookSpec.model_validate({"currency": "USD", "prices": prices}))


TOKENS = book(price("in", "InputTokens", "0.5", "Million"), price("out", "OutputTokens", "2", "Million"))


def test_replicas_and_tokens() -> None:
    """By the second for each way, by the hour only for what is always on, tokens once; a month of each."""
    books = {"second": book(device("0.001", "Second")), "hour": book(device("3.6", "Hour")), "tokens": TOKENS}
    found = offers(WORKLOAD, [ALWAYS, SLEEPS], Devices("gpu-a", 2), books, NOW)
    assert [(each.book, each.way) for each in found] == [
        ("second", ALWAYS),
        ("second", SLEEPS),
        ("hour", ALWAYS),
        ("tokens", None),
    ]
    assert [each.month for each in found] == pytest.approx(
        [2 * 0.001 * MONTH_S, 2 * 0.001 * 2_000.0, 2 * 3.6 * MONTH_H, 2 * (1.5 + 2.0)]
    )
    assert [one.name for one in found[-1].prices] == ["in", "out"]


def test_what_has_no_price_is_not_offered() -> None:
    """Another class, no accelerator, a price that has ended or not begun, no tokens, a book of input alone."""
    ended = book(device("1", "Hour", validTo="2026-11-01T00:00:00Z"))
    coming = book(device("1", "Hour") | {"validFrom": "2027-01-01T00:00:00Z"})
    alone = book(price("in", "InputTokens", "0.5", "Million"))
    books = {"ended": ended, "coming": coming, "input": alone, "gpu": book(device("1", "Hour"))}
    assert [each.book for each in offers(WORKLOAD, [ALWAYS], Devices("gpu-a", 1), books, NOW)] == ["gpu"]
    assert offers(WORKLOAD, [ALWAYS], Devices("gpu-b", 1), books, NOW) == []
    assert offers(WORKLOAD, [ALWAYS], None, books, NOW) == []
    silent = Workload("w", WORKLOAD.arrivals, WORKLOAD.span_s)
    assert offers(silent, [ALWAYS], None, {"tokens": TOKENS}, NOW) == []


@given(month=st.floats(1, 1e5), tokens=st.integers(1, 10**9), requests=st.integers(1, 500))
def test_at_the_even_rate_both_cost_the_same(month: float, tokens: int, requests: int) -> None:
    """So many requests an hour for all hours of a month, at what one of them costs in tokens."""
    times = tuple(map(float, range(requests)))
    workload = Workload("w", Arrivals(times, (1.0,) * requests), MONTH_S / 3, tokens, tokens)
    (offer,) = offers(workload, [], None, {"tokens": TOKENS}, NOW)
    rate = even_rate(workload, offer, month)
    assert rate is not None
    each = 2.5e-6 * tokens / requests
    assert math.isclose(rate * MONTH_H * each, month, rel_tol=1e-9)


def test_replicas_have_no_even_rate() -> None:
    """Their price does not grow with requests."""
    (offer,) = offers(WORKLOAD, [ALWAYS], Devices("gpu-a", 1), {"gpu": book(device("1", "Hour"))}, NOW)
    assert even_rate(WORKLOAD, offer, 100.0) is None
