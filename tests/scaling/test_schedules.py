"""Windows by the clock: against a model that goes minute by minute, over midnight and both changes of the clocks."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zerotide.api.cron import parse_cron
from zerotide.api.scalars import HOUR, MINUTE, SECOND, Duration, format_time, parse_time
from zerotide.api.spec_scaling import Scaling
from zerotide.api.spec_schedules import Override, Schedule
from zerotide.scaling.schedules import LONGEST_LEAD_US, By, Floor, floor_of, steps_of

ZONES = ("UTC", "Europe/Rome", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata", "America/Santiago")
CRONS = ("0 8 * * 1-5", "30 2 * * *", "*/20 22-3 * * *", "0 0 1,15 * *", "15 23 * * 6", "10 0 * * *")
SPRING, AUTUMN = "2026-03-28T12:00:00Z", "2026-10-24T12:00:00Z"
JUMPS = ("2026-03-29T01:00:00Z", "2026-10-25T01:00:00Z", "2026-09-06T04:00:00Z", "2026-04-05T03:00:00Z")
"""When the clocks change in Rome, and in Santiago, where that is at midnight."""


def window(
    name: str = "w", start: str = "0 8 * * 1-5", duration: str = "10h", zone: str = "UTC", least: int = 1
) -> Schedule:
    """Return a schedule."""
    return Schedule(name=name, start=start, duration=Duration(duration), time_zone=zone, min_replicas=least)


def at(text: str, *windows: Schedule, lead_us: int = 0, least: int = 0, override: Override | None = None) -> Floor:
    """Return the floor at a time."""
    scaling = Scaling(schedules=windows, min_replicas=least, max_replicas=9, override=override)
    return floor_of(scaling, lead_us, parse_time(text))


def modelled(schedule: Schedule, lead_us: int, now_us: int) -> bool:
    """Tell whether a minute that the schedule names lies within the last duration or the lead, by going through all."""
    cron, zone = parse_cron(schedule.start), ZoneInfo(schedule.time_zone)
    now = datetime.fromtimestamp(now_us // SECOND, UTC)
    local = (now - timedelta(microseconds=schedule.duration.us) - timedelta(days=1)).replace(tzinfo=None, second=0)
    while local <= now.replace(tzinfo=None) + timedelta(days=1):
        if cron.on(local.date()) and local.hour in cron.hours and local.minute in cron.minutes:
            opened = local.replace(tzinfo=zone).astimezone(UTC)
            begun = opened - timedelta(microseconds=lead_us)
            if begun <= now < opened + timedelta(microseconds=schedule.duration.us):
                return True
        local += timedelta(minutes=1)
    return False


@settings(max_examples=40, deadline=None)
@given(
    start=st.sampled_from(CRONS),
    zone=st.sampled_from(ZONES),
    hours=st.integers(1, 30),
    lead=st.integers(0, 60).map(lambda minutes: minutes * MINUTE),
    now_us=st.one_of(
        st.builds(
            lambda base, minutes: parse_time(base) + minutes * MINUTE,
            st.sampled_from((SPRING, AUTUMN)),
            st.integers(-1_500, 2_900),
        ),
        st.builds(
            lambda jump, minutes, seconds: parse_time(jump) + minutes * MINUTE + seconds * SECOND,
            st.sampled_from(JUMPS),
            st.sampled_from((-60, -30, 0, 30, 60)),
            st.integers(-1, 1),
        ),
    ),
)
def test_against_a_model(start: str, zone: str, hours: int, lead: int, now_us: int) -> None:
    """Open where the model says so, around both changes of the clocks and to the second at them."""
    schedule = window(start=start, duration=f"{hours}h", zone=zone)
    floor = floor_of(Scaling(schedules=(schedule,), max_replicas=9), lead, now_us)
    assert (floor.replicas == 1) == modelled(schedule, lead, now_us)


@settings(max_examples=100, deadline=None)
@given(
    starts=st.lists(st.sampled_from(CRONS), min_size=1, max_size=3),
    zone=st.sampled_from(ZONES),
    hours=st.integers(1, 30),
    lead=st.integers(0, 90).map(lambda minutes: minutes * MINUTE),
    minutes=st.integers(-1_500, 2_900),
)
def test_nothing_changes_before_it_is_said_to(
    starts: list[str], zone: str, hours: int, lead: int, minutes: int
) -> None:
    """Until then the floor is the same at every moment, and the time lies ahead: nothing spins, nothing is missed."""
    windows = tuple(window(f"w{index}", start, f"{hours}h", zone, index + 1) for index, start in enumerate(starts))
    scaling = Scaling(schedules=windows, max_replicas=9)
    now_us = parse_time(AUTUMN) + minutes * MINUTE
    floor = floor_of(scaling, lead, now_us)
    assert floor.until_us is not None and floor.until_us > now_us
    for part in range(1, 8):
        between = now_us + (floor.until_us - 1 - now_us) * part // 7
        later = floor_of(scaling, lead, between)
        assert (later.replicas, later.by, later.reason) == (floor.replicas, floor.by, floor.reason)


@pytest.mark.parametrize(
    ("time", "replicas"),
    [
        ("2026-11-20T06:59:59Z", 0),
        ("2026-11-20T07:00:00Z", 1),
        ("2026-11-20T16:59:59Z", 1),
        ("2026-11-20T17:00:00Z", 0),
        ("2026-11-21T08:00:00Z", 0),
    ],
)
def test_office_hours(time: str, replicas: int) -> None:
    """Eight to six in Rome on a Friday, which is one hour less in UTC; not on Saturday."""
    assert at(time, window(zone="Europe/Rome")).replicas == replicas


@pytest.mark.parametrize(
    ("start", "opens"),
    [
        ("30 2 29 3 *", "2026-03-29T01:30:00Z"),  # skipped: 03:30 of the summer
        ("30 2 25 10 *", "2026-10-25T00:30:00Z"),  # twice: the first
        ("0 20 28 3 *", "2026-03-28T19:00:00Z"),  # over the night that has an hour less
    ],
)
def test_changes_of_the_clocks(start: str, opens: str) -> None:
    """Once a day, and as long as ever."""
    floor = at(opens, window(start=start, zone="Europe/Rome"))
    assert floor.replicas == 1 and floor.window is not None
    assert (format_time(floor.window.start_us), floor.window.end_us - floor.window.start_us) == (opens, 10 * HOUR)
    assert at(format_time(parse_time(opens) - SECOND), window(start=start, zone="Europe/Rome")).replicas == 0


def test_the_highest_wins() -> None:
    """Over minReplicas too, where it is higher; the window that decides is shown."""
    wide, high = window("wide", "0 0 * * *", "24h"), window("high", "0 12 * * *", "1h", least=3)
    noon = at("2026-11-20T12:30:00Z", wide, high)
    assert (noon.replicas, noon.by, noon.reason) == (3, By.SCHEDULE, "schedule high")
    assert (
        noon.window is not None and noon.window.name == "high" and noon.until_us == parse_time("2026-11-20T13:00:00Z")
    )
    assert at("2026-11-20T13:00:00Z", wide, high).replicas == 1
    kept = at("2026-11-20T12:30:00Z", wide, high, least=4)
    assert (kept.replicas, kept.by, kept.reason) == (4, By.MIN_REPLICAS, "minReplicas")


def test_the_lead() -> None:
    """Replicas are asked for as much earlier as they take to start, within limits; the end stays."""
    schedule = window(start="0 9 * * *", duration="1h")
    early = at("2026-11-20T08:54:59Z", schedule, lead_us=5 * MINUTE)
    assert early.replicas == 0 and early.until_us == parse_time("2026-11-20T08:55:00Z")
    assert early.window is not None and early.window.lead_us == 5 * MINUTE
    up = at("2026-11-20T08:55:00Z", schedule, lead_us=5 * MINUTE)
    assert up.replicas == 1 and up.until_us == parse_time("2026-11-20T10:00:00Z")
    assert at("2026-11-20T07:59:59Z", schedule, lead_us=9 * LONGEST_LEAD_US).replicas == 0
    assert at("2026-11-20T08:59:00Z", schedule, lead_us=-5).replicas == 0


def test_an_override_stands_in_place_of_all_others() -> None:
    """Up or down, until it ends; then it is as if it had not been."""
    office = window(start="0 8 * * *")
    for replicas in (0, 2):
        override = Override(min_replicas=replicas, until="2026-11-20T12:00:00Z")
        floor = at("2026-11-20T11:59:59Z", office, least=1, override=override)
        assert (floor.replicas, floor.by) == (replicas, By.OVERRIDE) and "until 2026-11-20T12:00:00Z" in floor.reason
        assert floor.until_us == parse_time("2026-11-20T12:00:00Z")
        assert at("2026-11-20T12:00:00Z", office, override=override) == at("2026-11-20T12:00:00Z", office)


def test_without_a_clock() -> None:
    """Nothing to wait for; and a window that never opens is no window."""
    assert at("2026-11-20T12:00:00Z", least=2) == Floor(2)
    never = at("2026-11-20T12:00:00Z", window(start="0 0 30 2 *"))
    assert never == Floor(0)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(CRONS), st.sampled_from(ZONES), st.integers(1, 30), st.integers(0, 3)), max_size=3
    ),
    st.integers(0, 2),
    st.none() | st.tuples(st.integers(0, 3), st.integers(-600, 6_000)),
    st.sampled_from((SPRING, AUTUMN)),
    st.lists(st.integers(0, 5_000), min_size=1, max_size=20),
)
def test_the_steps_of_a_span_are_the_floors_of_its_instants(
    windows: list[tuple[str, str, int, int]],
    least: int,
    override: tuple[int, int] | None,
    base: str,
    minutes: list[int],
) -> None:
    """What is worked out in one pass is what is said of each instant alone; no two steps in a row are alike."""
    low_us = parse_time(base)
    held = None
    if override is not None:
        held = Override(min_replicas=override[0], until=format_time(low_us + override[1] * MINUTE))
    schedules = tuple(
        window(f"w{number}", start, f"{hours}h", zone, replicas)
        for number, (start, zone, hours, replicas) in enumerate(windows)
    )
    scaling = Scaling(schedules=schedules, min_replicas=least, max_replicas=9, override=held)
    high_us = low_us + 5_001 * MINUTE
    steps = steps_of(scaling, low_us, high_us)
    assert steps[0][0] == low_us
    assert all(step < after and one != other for (step, one), (after, other) in pairwise(steps))
    edges = [edge - shift for edge, _ in steps[1:] for shift in (0, SECOND)]
    for now_us in [*edges, *(low_us + minute * MINUTE for minute in minutes)]:
        held_now = [replicas for from_us, replicas in steps if from_us <= now_us][-1]
        assert held_now == floor_of(scaling, 0, now_us).replicas, format_time(now_us)


def test_windows_that_open_each_minute_are_one_step() -> None:
    scaling = Scaling(schedules=(window(start="* * * * *", duration="2m", least=2),), max_replicas=9)
    low_us = parse_time(SPRING)
    assert steps_of(scaling, low_us, low_us + 30 * 24 * HOUR) == [(low_us, 2)]
