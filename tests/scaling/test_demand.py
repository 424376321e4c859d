"""What several activators with clocks of their own say comes to one picture, never one that sleeps too soon."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from zerotide.api.demand import Delta, Demand, Report, Snapshot
from zerotide.api.scalars import SECOND
from zerotide.scaling.demand import Load, View, load_of

T = 1_790_000_000 * SECOND
KEY, UID = "demo/a", "u"


def demand(*, held: int = 0, in_flight: int = 0, last: int = 0, uid: str = UID) -> Demand:
    """Return what one activator is asked for."""
    return Demand(endpoint=KEY, uid=uid, held=held, in_flight=in_flight, arrivals=1, last_activity_us=last)


def view(*demands: Demand, skew: int = 0, started: int = T - 3600 * SECOND, reported: int = T) -> View:
    """Return the view of an activator whose clock is ahead by `skew`; times are given on ours."""
    made = View()
    made.apply(Snapshot(activator="x", started_at_us=started + skew, at_us=T + skew, demands=demands), T)
    made.apply(Report(at_us=reported + skew), reported)
    return made


def test_demand_adds_up_over_activators_whatever_their_clocks() -> None:
    """Held and in flight are summed, the last activity is the newest, reports are as old as the oldest."""
    skew = 7 * SECOND
    views = {
        "x": view(demand(held=1, last=T - 5 * SECOND), reported=T + SECOND),
        "y": view(demand(in_flight=2, last=T - 2 * SECOND + skew), skew=skew, reported=T + 2 * SECOND),
    }
    load = load_of(KEY, UID, views, ["x", "y"])
    assert (load.held, load.in_flight, load.active) == (1, 2, True)
    assert load.last_activity_us == load.last_request_us == T - 2 * SECOND
    assert load.reported_us == T + SECOND and load.missing == ()


def test_missing_reports() -> None:
    """A stream that is down, one that has not begun, and no activator at all are missing; extra ones still count."""
    assert load_of(KEY, UID, {}, ["x"]).missing == ("x",)
    assert load_of(KEY, UID, {"x": View()}, ["x"]).missing == ("x",)
    nobody = load_of(KEY, UID, {"x": view(demand(held=1))}, [])
    assert nobody.missing and nobody.held == 1 and nobody.reported_us == 0


def test_the_start_of_an_activator_counts_as_activity() -> None:
    """But not as a request."""
    load = load_of(KEY, UID, {"x": view(started=T - SECOND)}, ["x"])
    assert (load.last_activity_us, load.last_request_us) == (T - SECOND, 0)


def test_a_namesake_that_is_gone_does_not_count() -> None:
    """Demand is of an endpoint's uid."""
    assert not load_of(KEY, UID, {"x": view(demand(held=3, uid="old"))}, ["x"]).active


def test_deltas_and_reports_move_the_view_on() -> None:
    """A delta replaces what was known of one endpoint; a late report takes nothing back."""
    made = view(demand(held=1))
    made.apply(Delta(at_us=T + SECOND, demand=demand(last=T + SECOND)), T + SECOND)
    made.apply(Report(at_us=T + 2 * SECOND), T + 2 * SECOND)
    made.apply(Report(at_us=T + SECOND), T + 2 * SECOND)
    load = load_of(KEY, UID, {"x": made}, ["x"])
    assert not load.active and load.last_activity_us == T + SECOND and load.reported_us == T + 2 * SECOND
    assert made.endpoints() == [KEY]


@given(
    skew=st.integers(-3600 * SECOND, 3600 * SECOND),
    delays=st.lists(st.integers(0, SECOND), min_size=1, max_size=40),
    drift=st.integers(-200, 200),
)
@example(skew=0, delays=[0] * 60 + [SECOND], drift=0)
def test_times_are_never_early(skew: int, delays: list[int], drift: int) -> None:
    """A converted time lags by the shortest delay of the lines of half a minute, and by drift within a minute."""
    made = View()
    sent = T
    for delay in delays:
        sent += 500_000
        theirs = sent + skew + (sent - T) * drift // 1_000_000
        made.apply(Report(at_us=theirs), sent + delay)
    there = sent + skew + (sent - T) * drift // 1_000_000
    error = made.here(there) - sent
    slack = 60 * 200
    assert -slack <= error <= min(delays[-60:]) + slack


def test_who_leaves_takes_no_activity_along() -> None:
    """What it had told stands; what went on there and whose end nobody told went on until now."""
    stays, busy = view(), view(demand(in_flight=1, last=T - 60 * SECOND))
    before = load_of(KEY, UID, {"x": stays, "y": busy}, ["x", "y"])
    after = load_of(KEY, UID, {"x": stays}, ["x"]).after(before, T)
    assert not after.active and (after.last_activity_us, after.last_request_us) == (T, T - 60 * SECOND)
    assert after.after(after, T + SECOND) == after, "that was once"
    ended = load_of(KEY, UID, {"x": stays, "y": view(demand(last=T - SECOND))}, ["x", "y"]).after(before, T)
    assert ended.last_activity_us == T - SECOND, "its end was told"
    fallen = load_of(KEY, UID, {"x": stays}, ["x"]).after(ended, T - 600 * SECOND)
    assert fallen.last_activity_us == T - 600 * SECOND, "a clock that fell holds nothing for longer"


moves = st.tuples(st.sampled_from(["come", "end", "join", "leave"]), st.integers(0, 2), st.integers(0, 9))


@given(events=st.lists(moves, max_size=40))
def test_no_activity_is_forgotten(events: list[tuple[str, int, int]]) -> None:
    """Whichever activators come and go, with requests or without: the newest that there was is known of."""
    now, newest, load, flying, last = T, 0, Load(), {0: 0, 1: 0}, {0: 0, 1: 0}
    for what, name, seconds in events:
        now += seconds * SECOND
        if what == "join" and name not in flying:
            flying[name] = last[name] = 0
        elif what == "leave" and len(flying) > 1 and name in flying:
            newest = now if flying[name] else newest
            del flying[name], last[name]
        elif what == "come" and name in flying:
            flying[name] += 1
            newest = last[name] = now
        elif what == "end" and flying.get(name):
            flying[name] -= 1
            newest = last[name] = now
        views = {str(each): view(demand(in_flight=flying[each], last=last[each]), started=T) for each in flying}
        load = load_of(KEY, UID, views, views).after(load, now)
        assert load.active or load.last_activity_us >= newest
        assert load.last_activity_us <= max(now, T)
