"""Durations, quantities and times are exact, and refuse what the API server refuses."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.api.strategies import DURATIONS, ODD_DURATIONS, ODD_QUANTITIES, QUANTITIES
from zerotide.api.failures import InvalidDuration, InvalidQuantity, InvalidTime
from zerotide.api.scalars import (
    HOUR,
    Duration,
    Quantity,
    format_duration,
    format_micro_time,
    format_time,
    parse_duration,
    parse_quantity,
    parse_time,
)


@given(st.integers(0, 99_999 * HOUR))
def test_formatting_a_duration_loses_less_than_a_millisecond(us: int) -> None:
    assert abs(parse_duration(format_duration(us)) - us) <= 500


@given(DURATIONS)
def test_a_formatted_duration_is_a_fixpoint(text: str) -> None:
    assert parse_duration(format_duration(parse_duration(text))) == parse_duration(text)


@pytest.mark.parametrize(
    ("text", "us"), [("0s", 0), ("1ms", 1_000), ("1h30m", 5_400_000_000), ("1m1ms", 60_001_000), ("5m5m", 600_000_000)]
)
def test_durations(text: str, us: int) -> None:
    assert Duration(text).us == us
    assert Duration(text).seconds == us / 1e6


@given(ODD_DURATIONS)
def test_other_texts_are_no_durations(text: str) -> None:
    with pytest.raises(InvalidDuration, match="is not a duration"):
        parse_duration(text)


def test_too_long_a_duration_cannot_be_written() -> None:
    with pytest.raises(InvalidDuration, match="longer than"):
        format_duration(100_000 * HOUR)


def test_a_negative_duration_reads_as_none() -> None:
    assert format_duration(-5_000_000) == "0s"


@pytest.mark.parametrize(
    ("text", "value"),
    [("500m", "0.5"), ("2Gi", str(2 * 1024**3)), ("1.5k", "1500"), ("0.1", "0.1"), ("9P", "9e15"), ("3", "3")],
)
def test_quantities(text: str, value: str) -> None:
    assert parse_quantity(text) == Decimal(value)


def test_a_quantity_is_capped_as_kubernetes_caps_it() -> None:
    assert parse_quantity("999999999999.999999P") == 2**63 - 1


def test_a_quantity_rounds_up_to_whole_units() -> None:
    assert Quantity("1500m").units == 2
    assert Quantity("64Mi").units == 64 * 1024**2


@given(ODD_QUANTITIES)
def test_other_texts_are_no_quantities(text: str) -> None:
    with pytest.raises(InvalidQuantity, match="is not a quantity"):
        parse_quantity(text)


@given(DURATIONS, QUANTITIES)
def test_scalars_have_no_order_as_text(duration: str, quantity: str) -> None:
    for scalar in (Duration(duration), Quantity(quantity)):
        with pytest.raises(TypeError, match="compare its number"):
            sorted([scalar, scalar])


@given(st.integers(0, 253_402_300_799_999_999))
def test_times_round_trip(us: int) -> None:
    assert parse_time(format_micro_time(us)) == us
    assert parse_time(format_time(us)) == us // 1_000_000 * 1_000_000


@pytest.mark.parametrize(
    ("text", "us"),
    [
        ("1970-01-01T00:00:01Z", 1_000_000),
        ("1970-01-01T01:00:00+01:00", 0),
        ("1970-01-01T00:00:00.000001999Z", 1),
        ("1970-01-01t00:00:00z", 0),
    ],
)
def test_forms_of_a_time(text: str, us: int) -> None:
    assert parse_time(text) == us


@pytest.mark.parametrize(
    "text", ["", "2026-01-01", "2026-01-01T00:00:00", "2026-13-01T00:00:00Z", "2026-01-01 00:00:00Z"]
)
def test_other_texts_are_no_times(text: str) -> None:
    with pytest.raises(InvalidTime):
        parse_time(text)
