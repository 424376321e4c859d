"""Ways to keep an endpoint, compared on the same requests."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.scaling.replay.test_fleet import whole_arrivals
from zerotide.scaling.compare import MONTH_S, Workload, compare, steady
from zerotide.scaling.replay.fleet import Bounds
from zerotide.scaling.replay.simulate import Prices
from zerotide.scaling.replay.trace import Arrivals

PRICES = Prices(0.001, 0.007)


@settings(max_examples=25)
@given(arrivals=whole_arrivals(), most=st.integers(1, 4), limit=st.integers(1, 3))
def test_every_way_serves_the_same_requests(arrivals: Arrivals, most: int, limit: int) -> None:
    """Always on costs all replicas all the time, and nobody waits less; the others are named and in order."""
    workload = Workload("w", arrivals, (arrivals.times[-1] if arrivals.times else 0.0) + 100_000.0)
    ways = compare(workload, 30.0, PRICES, Bounds(0, most, limit, limit), [300.0, 60.0, 300.0], range(9))
    kept = [f"{number} kept warm" for number in range(1, most)]
    assert [way.name for way in ways] == ["always on", *kept, "sleeps after 1m", "sleeps after 5m", "learned"]
    always, *others = ways
    assert always.always and not any(way.always for way in others)
    assert always.served.replica_s == most * workload.span_s and always.served.cold == 0
    assert all(len(way.served.waits) == workload.requests for way in ways)
    assert all(way.served.waited_s >= always.served.waited_s for way in others)
    assert [way.timeout_s for way in ways if way.timeout_s is not None] == [math.inf, 60.0, 300.0]


@pytest.mark.parametrize(("rate", "span"), [(60.0, MONTH_S / 4), (2.0, MONTH_S)])
def test_made_up_requests_come_at_their_rate(rate: float, span: float) -> None:
    """The same for the same seed, within three standard deviations of what is expected, none after the end."""
    made = steady(rate, 2.0, span, random.Random(4))
    assert made == steady(rate, 2.0, span, random.Random(4)) != steady(rate, 2.0, span, random.Random(5))
    expected = rate * span / 3_600
    assert abs(len(made.times) - expected) < 3 * math.sqrt(expected)
    assert made.times[-1] < span and set(made.services) == {2.0}


def test_a_workload_counts_its_months_and_tokens() -> None:
    """A month is 730 hours."""
    workload = Workload("w", Arrivals((0.0, 5.0), (1.0, 1.0)), MONTH_S / 2, 300, 100)
    assert (workload.requests, workload.tokens, workload.months) == (2, 400, 0.5)
