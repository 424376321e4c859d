"""Cron expressions: the form that the API server admits is exactly what is understood, and each field by example."""

from __future__ import annotations

import re
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerotide.api.cron import PATTERN_CRON, parse_cron
from zerotide.api.failures import InvalidCron

tokens = st.sampled_from(["*", "0", "7", "8", "12", "31", "59", "60", "24", "-", "/", ",", "5", "a", "", "99", "00"])
field = st.lists(tokens, max_size=4).map("".join)


@given(text=st.lists(field, min_size=4, max_size=6).map(" ".join))
def test_what_the_schema_admits_is_understood(text: str) -> None:
    """And nothing else, leading zeros aside, which the schema admits of minutes only."""
    admitted = re.fullmatch(PATTERN_CRON.strip("^$"), text) is not None
    try:
        parse_cron(text)
    except InvalidCron:
        assert not admitted
    else:
        assert admitted or re.search(r"(^|[ ,/-])0[0-9]", text)


@pytest.mark.parametrize(
    ("text", "minutes", "hours"),
    [
        ("0 8 * * *", {0}, {8}),
        ("*/15 22-2 * * *", {0, 15, 30, 45}, {22, 23, 0, 1, 2}),
        ("5/20 1-9/4,23 * * *", {5, 25, 45}, {1, 5, 9, 23}),
        ("50-9/10 0 * * *", {50, 0}, {0}),
    ],
)
def test_minutes_and_hours(text: str, minutes: set[int], hours: set[int]) -> None:
    """Lists, ranges, steps, and ranges that run over the end."""
    cron = parse_cron(text)
    assert set(cron.minutes) == minutes and set(cron.hours) == hours


@pytest.mark.parametrize(
    ("text", "days"),
    [
        ("0 0 * * 1-5", [2, 3, 4, 5, 6, 9, 10, 11, 12, 13]),
        ("0 0 * * 0", [1, 8]),
        ("0 0 * * 7", [1, 8]),
        ("0 0 * * 6-1", [1, 2, 7, 8, 9, 14]),
        ("0 0 * * 0-7", list(range(1, 15))),
        ("0 0 * * 1-7", list(range(1, 15))),
        ("0 0 * * 0-7/7", [1, 8]),
        ("0 0 * * 5-7", [1, 6, 7, 8, 13, 14]),
        ("0 0 * * 7-1", [1, 2, 8, 9]),
        ("0 0 3,14 * *", [3, 14]),
        ("0 0 3 * 0", [1, 3, 8]),
        ("0 0 3 1 *", []),
        ("0 0 */7 * *", [1, 8]),
    ],
)
def test_days(text: str, days: list[int]) -> None:
    """Of the first two weeks of November 2026, which begins on a Sunday."""
    cron = parse_cron(text)
    assert [day for day in range(1, 15) if cron.on(date(2026, 11, day))] == days


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("0 8 * *", "write five fields"),
        ("61 8 * * *", "61 is no minute: it goes from 0 to 59"),
        ("0 x * * *", "'x' is no number of the hour"),
        ("0 0 0 * *", "0 is no day of the month"),
        ("*/0 0 1 * *", "'0' is no step of the minute"),
    ],
)
def test_what_is_no_expression(text: str, said: str) -> None:
    """The field is named."""
    with pytest.raises(InvalidCron, match=re.escape(said)):
        parse_cron(text)
