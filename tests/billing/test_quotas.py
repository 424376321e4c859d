"""What a holder gets of a budget, and in which windows it must have room."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerotide.api.budget import BudgetWindow
from zerotide.api.scalars import SECOND, parse_time
from zerotide.billing.quotas import PART, Room, resets, room, windows_at

amounts = st.integers(0, 1000)


@given(amounts, amounts, amounts, amounts, st.lists(amounts, max_size=5), amounts)
def test_never_more_than_there_is(limit: int, used: int, others: int, keep: int, needs: list[int], spare: int) -> None:
    found = room(limit, used, others, keep, needs, spare)
    assert found.amount >= keep and found.left >= 0
    if used + others + keep <= limit:
        assert used + others + found.amount + found.left == limit
    else:
        assert found == Room(keep, 0)


@given(amounts, amounts)
def test_a_need_that_fits_is_met_and_one_that_does_not_takes_nothing(left: int, need: int) -> None:
    assert room(left, 0, 0, 0, (need,), 0) == (Room(need, left - need) if need <= left else Room(0, left))


def test_what_is_to_spare_leaves_most_to_others() -> None:
    assert room(1600, 0, 0, 0, (), 10**6) == Room(1600 // PART, 1600 - 1600 // PART)
    assert room(100, 0, 0, 0, (60, 60, 30), 0) == Room(90, 10), "in their order, each whole or not"


@pytest.mark.parametrize(
    ("now", "starts"),
    [
        ("2026-11-25T12:00:00Z", ["2026-11-25T00:00:00Z"]),
        ("2026-11-26T00:00:01Z", ["2026-11-25T00:00:00Z", "2026-11-26T00:00:00Z"]),
        ("2026-11-25T23:59:59Z", ["2026-11-25T00:00:00Z", "2026-11-26T00:00:00Z"]),
        ("2026-11-26T00:00:03Z", ["2026-11-26T00:00:00Z"]),
    ],
)
def test_near_an_edge_both_windows_must_have_room(now: str, starts: list[str]) -> None:
    found = windows_at(BudgetWindow(period="Day"), parse_time(now))
    assert [each.start_us for each in found] == [parse_time(start) for start in starts]
    assert all(each.end_us > parse_time(now) - 2 * SECOND for each in found)


def test_when_it_begins_anew() -> None:
    now = parse_time("2026-11-25T12:00:00Z")
    assert resets(BudgetWindow(period="Week"), now) == parse_time("2026-11-30T00:00:00Z")
    assert resets(BudgetWindow(period="Total"), now) is None
    assert windows_at(BudgetWindow(period="Total"), now)[0].start_us == 0
