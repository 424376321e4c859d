"""Tables, spans, ages and amounts as people read them."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import given

from zerotide.api.scalars import HOUR, MINUTE, SECOND, format_time, parse_time
from zerotide.cli.output import DAY, count, format_age, format_bytes, format_fields, format_span, format_table, one_line

NOW = parse_time("2026-11-22T18:00:00Z")


def test_a_table_aligns_columns_and_fills_absent_cells() -> None:
    """Left by default, right where asked; nothing trails."""
    lines = format_table(["NAME", "COST", "NOTE"], [["a", "1.50", ""], ["longer", "12.00", "x"]], right=["COST"])
    assert lines == ["NAME     COST  NOTE", "a        1.50  -", "longer  12.00  x"]


@given(st.lists(st.lists(st.text(st.characters(categories=["L", "N"])), min_size=3, max_size=3)))
def test_every_column_starts_in_one_place(rows: list[list[str]]) -> None:
    """Whatever the cells: as many lines as rows and a header, each with the same column starts."""
    lines = format_table(["A", "B", "C"], rows)
    assert len(lines) == len(rows) + 1
    width = max(len(cell) for cell in ["A", *(row[0] for row in rows)])
    assert all(line[width : width + 2] == "  " for line in lines)


def test_fields_leave_out_what_is_empty() -> None:
    """Values stand under each other."""
    assert format_fields([("Name", "x"), ("Nothing", ""), ("Longest", "y")]) == ["Name:     x", "Longest:  y"]


@pytest.mark.parametrize(
    ("us", "text"),
    [
        (0, "0 ms"),
        (340_000, "340 ms"),
        (1_240_000, "1.24 s"),
        (12_340_000, "12.3 s"),
        (125 * SECOND, "2 m 05 s"),
        (3 * HOUR + 20 * MINUTE, "3 h 20 m"),
        (30 * HOUR, "30 h 00 m"),
    ],
)
def test_spans(us: int, text: str) -> None:
    """About three significant digits."""
    assert format_span(us) == text


@pytest.mark.parametrize(
    ("us", "text"),
    [
        (-5 * SECOND, "0s"),
        (45 * SECOND, "45s"),
        (119 * SECOND, "119s"),
        (12 * MINUTE, "12m"),
        (3 * HOUR + 20 * MINUTE, "3h20m"),
        (4 * HOUR, "4h"),
        (30 * HOUR, "30h"),
        (5 * DAY, "5d"),
    ],
)
def test_ages(us: int, text: str) -> None:
    """As kubectl writes them; a clock that runs ahead reads as now."""
    assert format_age(format_time(NOW - us), NOW) == text


def test_no_age() -> None:
    """What never happened has none."""
    assert format_age(None, NOW) == ""


def test_one_line() -> None:
    """Line breaks never tear a table, and long text is cut."""
    assert one_line("a\nb\tc") == "a b c"
    assert one_line("x" * 200, 10) == "x" * 9 + "…"


def test_count() -> None:
    """One of a thing is singular."""
    assert (count(0, "wake"), count(1, "wake"), count(2, "wake")) == ("0 wakes", "1 wake", "2 wakes")


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (99_949, "99.9 kB"),
        (99_950, "100 kB"),
        (538_100_000, "538 MB"),
        (999_500_000, "1.0 GB"),
        (16_060_000_000, "16.1 GB"),
        (5_000_000_000_000_000, "5000 TB"),
    ],
)
def test_sizes(number: int, text: str) -> None:
    """Three digits, and a unit that people know from disks."""
    assert format_bytes(number) == text
