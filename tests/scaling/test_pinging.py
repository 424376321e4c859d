"""When replicas are pinged: only in silence, once in an interval, and never put off for ever."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from zerotide.api.scalars import SECOND
from zerotide.scaling.pinging import Pinged, due

NOW = 1_790_000_000 * SECOND
INTERVAL = 60 * SECOND
times = st.integers(NOW - 300 * SECOND, NOW + 300 * SECOND)


@given(before=times, quiet=st.none() | times, now=times)
def test_only_after_an_interval_of_silence(before: int, quiet: int | None, now: int) -> None:
    """Neither while something is asked, nor sooner after it, or after the last ping, than the interval."""
    if due(Pinged(before), quiet, INTERVAL, now):
        assert quiet is not None
        since = max(before, quiet)
        assert now >= since + INTERVAL or now < since, "a clock that fell puts nothing off"


@given(
    moves=st.lists(st.tuples(st.integers(0, 30), st.sampled_from(["look", "ask", "end"])), max_size=60),
    interval=st.integers(10, 120),
)
def test_pings_are_as_many_as_the_silence_has_intervals(moves: list[tuple[int, str]], interval: int) -> None:
    """However it is looked at: at most one for each interval, and one within an interval and a look of silence."""
    now, last, pinged, busy = NOW, NOW, Pinged(NOW), False
    for seconds, move in moves:
        now += seconds * SECOND
        if move == "look":
            quiet = None if busy else last
            if due(pinged, quiet, interval * SECOND, now):
                assert not busy and now - pinged.at_us >= interval * SECOND and now - last >= interval * SECOND
                pinged = Pinged(now)
            elif not busy:
                assert now - max(pinged.at_us, last) < interval * SECOND
        else:
            busy, last = move == "ask", now
