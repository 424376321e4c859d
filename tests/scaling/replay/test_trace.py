"""Traces are read, thinned and made up repeatably, and what cannot be used says why."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerotide.scaling.replay.failures import EmptyHoldout, InvalidTrace
from zerotide.scaling.replay.synthetic import KINDS, make
from zerotide.scaling.replay.trace import Arrivals, Thinning, Trace, read, thin, timed

HEAD = "TIMESTAMP,ContextTokens,GeneratedTokens"
ROWS = [f"2023-11-16 18:17:{second:02}.9799600,1000,10" for second in (5, 3, 4, 9)]


def test_a_recorded_trace() -> None:
    """Sorted, from zero on, with the service that its tokens take."""
    rows = timed(read([HEAD, *ROWS]))
    assert [time for time, _ in rows] == [0.0, 1.0, 2.0, 6.0]
    assert all(service == pytest.approx(0.4) for _, service in rows)


def test_stamps_are_of_their_zone() -> None:
    """UTC without one; across a change of the clocks the order is that of the instants."""
    stamps = (
        "2023-10-29 02:30:00.5000000+02:00",
        "2023-10-29T02:10:00+01:00",
        "2023-10-29 00:00:00",
        "20231029T01Z",
    )
    rows = read([HEAD, *(f"{stamp},{number},1" for number, stamp in enumerate(stamps))])
    assert [(row.context, row.time_s) for row in rows] == [(2, 0.0), (0, 1_800.5), (3, 3_600.0), (1, 4_200.0)]


@given(rows=st.permutations([*ROWS, *ROWS]), end=st.sampled_from(("", "\n", "\r\n")), blank=st.booleans())
def test_the_order_of_rows_and_how_lines_end_do_not_matter(rows: list[str], end: str, blank: bool) -> None:
    """Nor rows that come twice, columns that are more, or lines without anything."""
    more = [f"{HEAD},Model", *(f"{row},m" for row in rows), *([""] if blank else [])]
    assert read(line + end for line in more) == read([HEAD, *sorted([*ROWS, *ROWS])])


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["TIMESTAMP,Tokens", *ROWS], "no column ContextTokens, GeneratedTokens"),
        ([HEAD, *ROWS, "yesterday,1,2"], "line 6 of the trace cannot be read"),
        ([HEAD, *ROWS, "2023-11-16 18:17:09,1"], "line 6 of the trace cannot be read"),
        ([HEAD, *ROWS, "2023-11-16 18:17:09,1,-2"], "line 6 of the trace cannot be read: -2 is no number of tokens"),
        ([HEAD, *ROWS, f"2023-11-16 18:17:09,{'9' * 400},2"], "line 6 .* is no number of tokens"),
        ([HEAD, *ROWS, "2023-11-16 18:17:09,NaN,2"], "line 6 of the trace cannot be read"),
        ([HEAD, *ROWS, "0" * 200_000], "line 5 of the trace cannot be read: field larger than field limit"),
        (["0" * 200_000], "line 0 of the trace cannot be read: field larger than field limit"),
        ([HEAD, ROWS[0]], "has 1 request: nothing"),
        ([HEAD], "has 0 requests"),
        ([], "no column"),
    ],
)
def test_what_is_no_trace(lines: list[str], said: str) -> None:
    """The message names the line or the column."""
    with pytest.raises(InvalidTrace, match=said):
        read(lines)


@given(seed=st.integers(0, 50), endpoints=st.integers(1, 8), run=st.integers(1, 9), stretch=st.floats(0.5, 30))
def test_thinning_keeps_every_request(seed: int, endpoints: int, run: int, stretch: float) -> None:
    """Each goes to one endpoint, at its stretched time, the same for the same seed."""
    rows = [(float(second), second / 100) for second in range(80)]
    how = Thinning(endpoints, run, stretch, seed)
    made = thin("t", rows, how, random.Random(seed))
    assert made == thin("t", rows, how, random.Random(seed))
    assert sorted(time for one in made.endpoints for time in one.times) == [time * stretch for time, _ in rows]
    assert made.requests == 80 and len(made.endpoints) == endpoints and made.end_s > 79 * stretch
    assert sum(part.requests for part in made.held_out()) == 80


def test_runs_stay_together() -> None:
    """Requests that follow each other mostly go to the same endpoint."""
    rows = [(float(second), 0.1) for second in range(4_000)]
    made = thin("t", rows, Thinning(5, 40, 1.0, 3), random.Random(3))
    together = sum(b - a == 1 for one in made.endpoints for a, b in zip(one.times, one.times[1:], strict=False))
    assert together > 3_800


def test_a_thinning_that_lasts_too_long() -> None:
    """Times of which nobody could tell the end."""
    with pytest.raises(InvalidTrace, match=r"stretched ×1e\+300 the trace lasts for 2.31e\+296 days: a century"):
        thin("t", [(0.0, 1.0), (1.0, 1.0), (20.0, 1.0)], Thinning(stretch=1e300), random.Random(1))


@pytest.mark.parametrize("how", [Thinning(0), Thinning(run=0), Thinning(stretch=0)])
def test_a_thinning_that_makes_no_sense(how: Thinning) -> None:
    """It says what must be positive."""
    with pytest.raises(InvalidTrace, match="must be positive"):
        thin("t", [(0.0, 1.0)] * 3, how, random.Random(1))


def test_a_silent_last_third_is_refused() -> None:
    """Nothing could be judged there."""
    trace = Trace("early", 0.0, 90.0, (Arrivals((1.0, 2.0, 59.0), (1.0, 1.0, 1.0)),))
    with pytest.raises(EmptyHoldout, match="trace early: no request in its last third"):
        trace.held_out()


@pytest.mark.parametrize("kind", KINDS)
def test_made_up_traces(kind: str) -> None:
    """Repeatable, in order, within their time, and with something in the last third."""
    trace = make(kind, random.Random(1), endpoints=3)
    assert trace == make(kind, random.Random(1), endpoints=3)
    for arrivals in trace.endpoints:
        assert list(arrivals.times) == sorted(arrivals.times) and len(arrivals.times) == len(arrivals.services)
        assert all(0 <= time < trace.end_s for time in arrivals.times)
        assert all(0 < service <= 60 for service in arrivals.services)
    before, after = trace.held_out()
    assert before.requests and after.requests
