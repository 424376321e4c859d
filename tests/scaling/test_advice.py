"""Advice from an endpoint's own requests: what is cheapest on them, and when there are too few."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zerotide.api.spec_scaling import Scaling
from zerotide.scaling.advice import ENOUGH_SILENCES, NOTICEABLE, WORTH_IT, Advice, Option, advise, span
from zerotide.scaling.hours import History, Hours, find, local
from zerotide.scaling.learning.prior import Prior
from zerotide.scaling.replay.rules import Fixed, Learned
from zerotide.scaling.replay.simulate import Outcome, Prices, simulate
from zerotide.scaling.replay.trace import Arrivals
from zerotide.scaling.windows import Windows, replay

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


def test_a_window_must_be_worth_it() -> None:
    """By a margin, on the requests themselves: the best of a thousand is a little better by chance alone."""
    office = [day * DAY + 9 * 3_600 + step * 600 for day in range(14) for step in range(48) if day % 7 < 5]
    nights = [day * DAY + 17.5 * 3_600 + step * 2_700 for day in range(14) for step in range(19)]
    known, found = history(sorted(office + nights), 14), []
    for waiting in (0.02, 0.025):
        prices = Prices(0.001, waiting)
        advice = advise(known, 30.0, prices, NOW)
        fixed = advice.options[1]
        hours, beside = find(known, 30.0, prices, fixed.timeout_s, "UTC")
        ratio = replay(known, 30.0, hours, Fixed(beside)).cost(prices) / fixed.outcome.cost(prices)
        found.append(any(option.hours for option in advice.options))
        assert found[-1] == (ratio <= WORTH_IT)
    assert set(found) == {False, True}


@settings(max_examples=25, deadline=None)
@given(
    gaps=st.lists(st.sampled_from((3.0, 300.0, 3_000.0, 4_000.0, 30_000.0, 90_000.0)), min_size=1, max_size=60),
    zone=st.sampled_from(("UTC", "Europe/Rome", "Asia/Kolkata")),
    worth=st.sampled_from((0.001, 0.03, 0.5)),
)
def test_the_window_is_the_best_by_the_price_of_each_silence(gaps: list[float], zone: str, worth: float) -> None:
    """As adding them up one by one for each window finds, whatever is summed beforehand."""
    times = [0.0]
    for gap in gaps:
        times.append(times[-1] + gap)
    known, prices = history(times, 40, MONDAY + 5_000), Prices(0.001, worth)
    ends = [known.begin_s + time + 1 for time in times]
    quiet = [(b - a - 1, a) for a, b in zip(ends, [*ends[1:], known.end_s + 1], strict=True)]
    days = [local(at, zone)[0] for at in (known.begin_s, known.end_s)]

    def price(hours: Hours, beside: float) -> float:
        """Return the seconds of an idle replica that all of them together come to."""
        total, used = 0.0, set()
        for gap, since in quiet:
            day, hour = local(since, zone)
            left = hours.left_s(day, hour)
            used |= {day if hour >= hours.first else day - 1} if left else set()
            awake = max(beside, left)
            total += gap if gap <= awake else awake + 30.0 * (1 + prices.worth)
        unused = sum(hours.on(day) and day not in used for day in range(days[0], days[1] + 1))
        return total + unused * hours.length * 3_600

    found = find(known, 30.0, prices, 300.0, zone)
    others = [
        price(Hours(first, length, weekdays, zone), beside)
        for first in range(0, 24, 3)
        for length in (2, 8, 16)
        for weekdays in (False, True)
        for beside in (5.0, 300.0)
    ]
    assert price(*found) <= min(others) + 1e-3


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
    tried = [option.outcome.cost(PRICES) for option in (*advice.options, advice.always_on)]
    assert all(cost(advice) * NOTICEABLE <= each for each in tried)
    if advice.best is not advice.present:
        assert cost(advice) == min(tried) <= NOTICEABLE * advice.present.outcome.cost(PRICES)
    assert advice.always_on.outcome.cold_starts == 1 and advice.always_on.timeout_s == math.inf


def test_a_window_costs_also_where_nobody_comes() -> None:
    """A replica is up when it opens, nobody waits for that start, and it stays until it closes."""
    quiet = history([3_600.0], 3)
    hours = Hours(9, 2, False, "UTC")
    outcome = replay(quiet, 30.0, hours, Fixed(5.0))
    assert (outcome.cold_starts, outcome.waited_s, outcome.load_s) == (1, 30.0, 4 * 30.0)
    assert outcome.idle_s == pytest.approx(5 + 3 * 7_200)
    served = replay(history([9 * 3_600 + 60.0, 9 * 3_600 + 4_000.0], 1), 30.0, hours, Fixed(5.0))
    assert (served.cold_starts, served.waited_s) == (0, 0.0)
    assert served.active_s + served.idle_s == pytest.approx(7_200)


def test_a_window_that_opens_on_a_replica_keeps_it() -> None:
    """One that is awake when its window's would be started is what the window keeps, until it closes."""
    times = [9 * 3_600 - 120.0, 10 * 3_600.0, 12 * 3_600.0]
    outcome = replay(history(times, 1), 30.0, Hours(9, 2, False, "UTC"), Fixed(300.0))
    assert (outcome.cold_starts, outcome.waited_s) == (2, 60.0), "the first, and the one after it closed"
    assert outcome.active_s + outcome.idle_s == pytest.approx(90 + 2 * 3_600 + 301)


def test_a_window_just_after_the_first_request_is_not_what_woke_it() -> None:
    """Somebody waited for that start."""
    outcome = replay(history([0.0], 1, MONDAY + 9 * 3_600 - 30.0), 30.0, Hours(9, 2, False, "UTC"), Fixed(5.0))
    assert (outcome.cold_starts, outcome.waited_s) == (1, 30.0)


def test_the_windows_of_a_spec() -> None:
    """As its schedules open them, merged where they touch; nothing else of the spec keeps anything there."""
    schedules = [
        {"name": "morning", "start": "0 9 * * *", "duration": "2h"},
        {"name": "peak", "start": "0 10 * * *", "duration": "2h", "minReplicas": 2},
        {"name": "none", "start": "0 20 * * *", "duration": "2h", "minReplicas": 0},
    ]
    override = {"minReplicas": 0, "until": "2030-01-01T00:00:00Z"}
    raw = {"minReplicas": 1, "maxReplicas": 2, "schedules": schedules, "override": override}
    windows = Windows.of(Scaling.model_validate(raw), MONDAY, MONDAY + 2 * DAY)
    nine, noon = MONDAY + 9 * 3_600, MONDAY + 12 * 3_600
    assert windows.spans == ((nine, noon), (nine + DAY, noon + DAY))
    assert list(windows.openings(nine + 1, nine + DAY + 1)) == [nine + DAY]
    assert [windows.open_s(at) for at in (nine - 1, nine, noon - 1, noon)] == [0, 3 * 3_600, 1, 0]
    begun = Windows.of(Scaling.model_validate({"schedules": schedules[:1]}), nine + 60, noon)
    assert begun.spans == ((nine + 60, nine + 7_200),)


def test_a_rule_beside_windows_learns_from_requests_alone() -> None:
    """Not from openings: the silence is as long as it was."""
    rule, plain = Learned(Prior(), 5.0, PRICES), Learned(Prior(), 5.0, PRICES)
    requests = history([day * DAY for day in range(5)], 5, MONDAY + 10 * 3_600)
    replay(requests, 5.0, Hours(9, 2, False, "UTC"), rule)
    simulate(requests.arrivals, requests.span_s, 5.0, plain)
    assert rule.learner.gaps.counts == plain.learner.gaps.counts and rule.learner.waiting.wakes == 1


@pytest.mark.parametrize(
    ("present", "name"),
    [
        (NOW, "now: timeout 5m"),
        (replace(NOW, learned=True), "now: learned"),
        (replace(NOW, kept=2), "now: always on"),
        (replace(NOW, windows=Windows(((MONDAY + 3_600, MONDAY + 7_200),))), "now: schedules, else timeout 5m"),
        (replace(NOW, windows=Windows(()), learned=True), "now: schedules, else learned"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_there_is_now_is_what_the_spec_asks_for(present: Option, name: str) -> None:
    """A floor and schedules keep replicas that a timeout alone would not."""
    advice = advise(history([900.0 * step for step in range(96)], 1), 30.0, PRICES, present)
    now, plain = advice.present, simulate(*_requests(96), 30.0, Fixed(300.0))
    assert now.name == name and (now.kept, now.windows) == (present.kept, present.windows)
    if present.kept:
        assert now.outcome == advice.always_on.outcome
    elif present.windows is not None and not present.learned:
        assert now.outcome.cold_starts == plain.cold_starts - 5 and now.outcome.idle_s > plain.idle_s
    elif not present.learned:
        assert now.outcome == plain


def _requests(number: int) -> tuple[Arrivals, float]:
    return history([900.0 * step for step in range(number)], 1).arrivals, DAY


def test_never_to_sleep_is_advised_where_it_costs_least() -> None:
    """Beyond the longest timeout: silences of more than a day, and waiting that is worth more than that."""
    dear = Prices(0.001, 10.0)
    advice = advise(history([1.2 * DAY * step for step in range(30)], 36), 60.0, dear, NOW)
    assert advice.best is advice.always_on and advice.best.kept == 1
    assert cost(advice, dear) < min(option.outcome.cost(dear) for option in advice.options)


def test_what_saves_next_to_nothing_is_not_advised() -> None:
    """A change that nobody would notice on the bill is none worth making."""
    busy = history([200.0 * step for step in range(860)], 2)
    advice = advise(busy, 30.0, PRICES, replace(NOW, timeout_s=310.0))
    assert advice.best is advice.present
    assert min(option.outcome.cost(PRICES) for option in advice.options) < cost(advice)


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
