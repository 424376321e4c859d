"""Advice from an endpoint's own requests: what is cheapest on them, and when there are too few."""

from __future__ import annotations

import math
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zerotide.scaling.advice import ENOUGH_SILENCES, Advice, Option, advise, span
from zerotide.scaling.hours import History, Hours, local, replay
from zerotide.scaling.replay.simulate import Outcome, Prices
from zerotide.scaling.replay.trace import Arrivals

DAY = 86_400.0
MONDAY = datetime(2026, 11, 16, tzinfo=UTC).timestamp()
PRICES = Prices(0.001, 0.01)
NOW = Option("now", Outcome(), 300.0)


def history(times: list[float], days: float, begin: float = MONDAY) -> History:
    """Return a history of short requests."""
    return History(begin, begin + days * DAY, Arrivals(tuple(times), (1.0,) * len(times)))


def cost(advice: Advice, prices: Prices = PRICES) -> float:
    """Return what the best costs."""
    return advice.best.outcome.cost(prices)


def test_a_timer_that_is_waited_for() -> None:
    """A request every four minutes with a cold start that costs more: the timeout just above, or what was learned."""
    dear = Prices(0.001, 0.05)
    advice = advise(history([240.0 * step for step in range(2_000)], 6), 30.0, dear, NOW)
    assert not advice.too_little and cost(advice, dear) <= advice.present.outcome.cost(dear)
    rare = advise(history([3_600.0 * step for step in range(140)], 6), 5.0, PRICES, NOW)
    assert rare.best.outcome.idle_s < rare.present.outcome.idle_s
    assert rare.price_of_avoided(PRICES) is None


def test_what_was_learned_is_explained() -> None:
    """In the words of the status: after how many silences, what a cold start counts as, what the spec's would be."""
    advice = advise(history([240.0 * step for step in range(400)], 2), 30.0, PRICES, NOW)
    assert advice.explained.endswith(" for each silence; under 5m it would be 240 s")
    assert (
        advice.explained.startswith("4m")
        and "after 399 silences: a cold start counts as " in advice.explained
        and "requests wait" in advice.explained
    )
    early = advise(history([0.0, 100.0], 2), 30.0, PRICES, NOW)
    assert early.explained == "5m, 1 silence seen; 5m holds until there are 5"


def test_office_hours_are_found() -> None:
    """Every ten minutes while people work, and now and then at night, when it is cheaper to sleep at once."""
    office = [day * DAY + 9 * 3_600 + step * 600 for day in range(14) for step in range(48) if day % 7 < 5]
    nights = [day * DAY + 17.5 * 3_600 + step * 2_700 for day in range(14) for step in range(19)]
    prices = Prices(0.001, 0.03)
    advice = advise(history(sorted(office + nights), 14), 30.0, prices, NOW)
    hours = advice.best.hours
    assert hours is not None and hours.weekdays and (hours.first, hours.length) == (9, 8)
    assert hours.cron == "0 9 * * 1-5" and advice.best.timeout_s == 5
    early = advise(history(sorted(office + nights)[:400], 6.9), 30.0, prices, NOW)
    assert all(option.hours is None for option in early.options), "less than a week"


@pytest.mark.parametrize(("silences", "days"), [(ENOUGH_SILENCES - 1, 3.0), (500, 0.9), (0, 0.0)])
def test_too_little(silences: int, days: float) -> None:
    """It says how much there is and how much it takes."""
    advice = advise(history([100.0 * step for step in range(silences + 1)], max(days, 0.1)), 5.0, PRICES, NOW)
    assert f"with {silences} silences" in advice.too_little and "2026-11-16 00:00 UTC" in advice.too_little
    nobody = advise(History(0.0, 0.0, Arrivals((), ())), 5.0, PRICES, NOW)
    assert nobody.too_little and nobody.best.outcome.gpu_s == 0


@settings(max_examples=15, deadline=None)
@given(gaps=st.lists(st.sampled_from((5.0, 60.0, 400.0, 3_000.0)), min_size=30, max_size=80), learned=st.booleans())
def test_the_best_is_the_best_of_what_was_tried(gaps: list[float], learned: bool) -> None:
    """The present one among them, and all on the same requests."""
    times, now = [], 0.0
    for gap in gaps:
        times.append(now)
        now += gap
    present = Option("now", Outcome(), 300.0, learned)
    advice = advise(
        History(MONDAY, MONDAY + max(now, 2 * DAY), Arrivals(tuple(times), (1.0,) * len(times))), 9.0, PRICES, present
    )
    assert advice.present in advice.options and advice.present.learned == learned
    assert all(cost(advice) <= option.outcome.cost(PRICES) for option in advice.options)
    assert advice.always_on.outcome.cold_starts == 1 and advice.always_on.timeout_s == math.inf


def test_a_window_costs_also_where_nobody_comes() -> None:
    """A replica is up when it opens, nobody waits for that start, and it stays until it closes."""
    quiet = history([3_600.0], 3)
    hours = Hours(9, 2, False, "UTC")
    outcome = replay(quiet, 30.0, hours, 5.0)
    assert (outcome.cold_starts, outcome.waited_s, outcome.load_s) == (1, 30.0, 4 * 30.0)
    assert outcome.idle_s == pytest.approx(5 + 3 * 7_200)
    served = replay(history([9 * 3_600 + 60.0, 9 * 3_600 + 4_000.0], 1), 30.0, hours, 5.0)
    assert (served.cold_starts, served.waited_s) == (0, 0.0)
    assert served.active_s + served.idle_s == pytest.approx(7_200)


@pytest.mark.parametrize(
    ("time", "left"),
    [
        ("2026-11-16T20:59:59Z", 0.0),
        ("2026-11-16T21:00:00Z", 8.0),
        ("2026-11-17T03:30:00Z", 1.5),
        ("2026-11-17T05:00:00Z", 0.0),
        ("2026-11-21T04:00:00Z", 1.0),  # Friday's, on Saturday morning
        ("2026-11-21T21:30:00Z", 0.0),
        ("2026-11-23T04:00:00Z", 0.0),  # nothing opened on Sunday
    ],
)
def test_hours_over_midnight(time: str, left: float) -> None:
    """Ten at night to six in Rome, Monday to Friday."""
    hours = Hours(22, 8, True, "Europe/Rome")
    moment = datetime.fromisoformat(time).timestamp()
    assert hours.left_s(*local(moment, hours.zone)) == pytest.approx(left * 3_600)


@pytest.mark.parametrize(
    ("seconds", "text"), [(5, "5s"), (90, "90s"), (300, "5m"), (7_200, "2h"), (5_400, "90m"), (0, "0s")]
)
def test_spans(seconds: float, text: str) -> None:
    """As the API writes them."""
    assert span(seconds) == text
