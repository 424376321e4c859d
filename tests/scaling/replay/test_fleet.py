"""Several replicas before one line: one that takes all is the other simulation, and seats are never exceeded."""

from __future__ import annotations

import math
from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.scaling.replay.test_simulate import some_arrivals
from zerotide.scaling.learning.prior import Prior
from zerotide.scaling.replay.fleet import Bounds, Served, serve
from zerotide.scaling.replay.rules import Fixed, KubeAI, Learned
from zerotide.scaling.replay.simulate import Prices, Rule, simulate
from zerotide.scaling.replay.trace import Arrivals

PRICES = Prices(0.001, 0.01)


@st.composite
def whole_arrivals(draw: st.DrawFn) -> Arrivals:
    """Draw requests at whole seconds, which are served for whole seconds, so that sums are exact."""
    gaps = draw(st.lists(st.sampled_from((0, 0, 1, 7, 40, 300)), max_size=25))
    times, now = [], 0
    for gap in gaps:
        now += gap
        times.append(float(now))
    services = draw(st.lists(st.integers(0, 50), min_size=len(times), max_size=len(times)))
    return Arrivals(tuple(times), tuple(map(float, services)))


@st.composite
def bounds(draw: st.DrawFn) -> Bounds:
    """Draw bounds; a replica takes at least as many as it is asked to."""
    most, target = draw(st.integers(1, 4)), draw(st.integers(1, 3))
    limit = draw(st.sampled_from((0, target, target + 2)))
    return Bounds(draw(st.integers(0, most)), most, target, limit, float(draw(st.sampled_from((0, 5, 60)))))


def made(kind: str, load: float, timeout: float) -> Rule:
    """Return a new rule of a kind."""
    rules: dict[str, Rule] = {
        "fixed": Fixed(timeout),
        "kubeai": KubeAI(load),
        "learned": Learned(Prior(), load, PRICES),
    }
    return rules[kind]


@given(
    arrivals=some_arrivals(most=25),
    load=st.floats(0.1, 60),
    timeout=st.floats(0, 10_000),
    kind=st.sampled_from(("fixed", "kubeai", "learned")),
    tail=st.floats(0, 500),
)
def test_one_replica_that_takes_all_is_the_other_simulation(
    arrivals: Arrivals, load: float, timeout: float, kind: str, tail: float
) -> None:
    """The same seconds, starts and waiting under the same rule, which is told the same."""
    end = (arrivals.times[-1] if arrivals.times else 0.0) + tail
    one = simulate(arrivals, end, load, made(kind, load, timeout))
    other = serve(arrivals, end, load, Bounds(), made(kind, load, timeout))
    assert (other.starts, len(other.waits)) == (one.cold_starts, len(arrivals.times))
    assert math.isclose(other.replica_s, one.gpu_s, abs_tol=1e-6)
    assert math.isclose(other.waited_s, one.waited_s, abs_tol=1e-6)


@given(arrivals=whole_arrivals(), load=st.integers(1, 60), within=bounds(), timeout=st.integers(0, 400))
def test_seats_are_never_exceeded(arrivals: Arrivals, load: int, within: Bounds, timeout: int) -> None:
    """All are served in order, none before it came; replicas cost between what was kept and what there may be."""
    end = (arrivals.times[-1] if arrivals.times else 0.0) + 1_000
    served = serve(arrivals, end, float(load), within, Fixed(float(timeout)))
    begun = [came + waited for came, waited in zip(arrivals.times, served.waits, strict=True)]
    assert begun == sorted(begun) and all(waited >= 0 for waited in served.waits)
    ended = [begin + service for begin, service in zip(begun, arrivals.services, strict=True)]
    if within.limit:
        for now in begun:
            running = sum(begin <= now < over for begin, over in zip(begun, ended, strict=True))
            assert running <= within.most * within.limit
    horizon = max([end, *ended])
    assert within.kept * horizon <= served.replica_s <= within.most * horizon
    assert served.starts >= (not within.kept and bool(arrivals.times))
    assert served.cold == 0 if within.kept else served.cold <= len(arrivals.times)


@given(arrivals=whole_arrivals(), load=st.integers(1, 60), within=bounds(), timeout=st.integers(0, 400))
def test_nobody_is_served_sooner_than_where_all_replicas_are_always_on(
    arrivals: Arrivals, load: int, within: Bounds, timeout: int
) -> None:
    """Each request waits at least as long under any other bounds."""
    end = (arrivals.times[-1] if arrivals.times else 0.0) + 1_000
    full = Bounds(within.most, within.most, within.target, within.limit, within.down_s)
    always = serve(arrivals, end, float(load), full, Fixed(math.inf))
    other = serve(arrivals, end, float(load), within, Fixed(float(timeout)))
    assert always.starts == 0
    assert all(one <= another for one, another in zip(always.waits, other.waits, strict=True))


@given(
    gaps=st.lists(st.floats(0, 400), max_size=20),
    service=st.floats(0.001, 90),
    load=st.floats(0.1, 60),
    within=bounds(),
    timeout=st.floats(0, 400),
)
def test_every_request_is_served_whatever_the_fractions(
    gaps: list[float], service: float, load: float, within: Bounds, timeout: float
) -> None:
    """Instants that are no whole seconds are reached like others, and passed."""
    times = tuple(accumulate(gaps))
    served = serve(Arrivals(times, (service,) * len(times)), 1e4, load, within, Fixed(timeout))
    assert len(served.waits) == len(times) and min(served.waits, default=0.0) >= 0
    assert served.replica_s <= within.most * (max([1e4, *times]) + load + service * len(times)) + 1e-6


def test_two_replicas_by_hand() -> None:
    """Three at once: the first replica comes alone, the second once it serves, and both sleep after 30 s."""
    three = Arrivals((0.0, 0.0, 0.0), (5.0, 5.0, 5.0))
    served = serve(three, 500.0, 10.0, Bounds(0, 2, 1, 1, 60.0), Fixed(30.0))
    assert served == Served(replica_s=55.0 + 45.0, starts=2, cold=3, waits=(10.0, 15.0, 20.0))
    assert [served.wait_s(percent) for percent in (1, 50, 90, 100)] == [10.0, 15.0, 20.0, 20.0]
    stays = serve(three, 500.0, 10.0, Bounds(0, 2, 1, 1, 60.0), Fixed(100.0))
    assert stays.replica_s == 125.0 + 70.0, "from 20 s on one is enough, so the other leaves at 80 s"


@pytest.mark.parametrize(("down", "spent"), [(60.0, 500.0 + 50 + 60), (0.0, 500.0 + 50)])
def test_what_was_added_to_what_is_kept_leaves(down: float, spent: float) -> None:
    """After the time for which fewer were wanted; what is kept stays to the end."""
    burst = Arrivals((100.0, 100.0), (50.0, 60.0))
    served = serve(burst, 500.0, 10.0, Bounds(1, 2, 1, 1, down), Fixed(0.0))
    assert (served.starts, served.cold, served.waits) == (1, 0, (0.0, 10.0))
    assert served.replica_s == spent


def test_nothing_comes() -> None:
    """What is kept is paid for, and nothing else."""
    nobody = Arrivals((), ())
    assert serve(nobody, 100.0, 5.0, Bounds(), Fixed(60.0)) == Served(0.0, 0, 0, ())
    assert serve(nobody, 100.0, 5.0, Bounds(2, 3), Fixed(60.0)).replica_s == 200.0
    assert serve(nobody, 100.0, 5.0, Bounds(), Fixed(60.0)).wait_s(90) == 0.0
