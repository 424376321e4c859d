"""The machine's clock is set while the operator runs: what goes by the clock follows, what is timed goes on."""

from __future__ import annotations

import asyncio

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from tests.controller.standin import StandIn
from tests.controller.test_process import NOWHERE
from tests.kube.test_clock import Wall
from tests.reconcile.helpers import NOW, pod, raw
from zerotide.api.endpoint import InferenceEndpoint
from zerotide.api.scalars import HOUR, MINUTE, SECOND, format_time
from zerotide.controller.activators import Activator
from zerotide.controller.options import parse
from zerotide.controller.prewarmers import Prewarmers
from zerotide.controller.process import Operator
from zerotide.controller.rush import Rush
from zerotide.controller.starts import Starts
from zerotide.controller.streams import Streams
from zerotide.kube import Client, Clock
from zerotide.reconcile.pods import Stage
from zerotide.scaling.demand import Load, load_of
from zerotide.scaling.learning.learner import Learner
from zerotide.scaling.learning.listening import Listening
from zerotide.scaling.learning.prior import Prior
from zerotide.scaling.prewarm.account import DAY
from zerotide.scaling.schedules import floor_of
from zerotide.scaling.window import Window

STEP = st.integers(-30 * DAY, 30 * DAY)


@pytest.mark.parametrize("step", [2 * HOUR, -2 * HOUR])
async def test_what_goes_by_the_clock_follows_it(step: int) -> None:
    """An override is over, or not yet, by the time that it is; and everybody is looked at."""
    wall = Wall()
    made = Operator(Client(NOWHERE), parse([], {"POD_NAME": "op-0"}), Clock(wall_ns=wall))
    until_us = wall.now_us() + (HOUR if step > 0 else -HOUR)
    obj = raw({"scaling": {"override": {"minReplicas": 1, "until": format_time(until_us // SECOND * SECOND)}}})
    made.on_event("ADDED", obj)
    assert made.queue._schedule.take(0.0) == "demo/a"
    made.queue._schedule.done("demo/a")
    scaling = InferenceEndpoint.parse(obj).spec.scaling

    def kept() -> int:
        return floor_of(scaling, 0, made._clock.now_us()).replicas

    before = kept()
    made._keep_time()
    assert len(made.queue) == 0, "the clock was not set"
    wall.set_us = step
    made._keep_time()
    assert (before, kept()) == ((1, 0) if step > 0 else (0, 1))
    assert made.queue._schedule.take(0.0) == "demo/a"


async def test_the_operator_looks_at_it_as_long_as_it_runs() -> None:
    """Whether it leads or stands by."""
    wall = Wall()
    made = Operator(Client(NOWHERE), parse([], {"POD_NAME": "op-0"}), Clock(wall_ns=wall))
    wall.set_us = DAY
    pulse = asyncio.create_task(made._pulse())
    await asyncio.sleep(0)
    pulse.cancel()
    assert abs(made._clock.now_us() - wall.now_us()) < SECOND


@given(
    step=STEP, ages=st.lists(st.tuples(st.integers(0, HOUR), st.integers(0, 9)), max_size=6), span=st.integers(0, HOUR)
)
def test_a_window_reaches_as_far_back_as_before(step: int, ages: list[tuple[int, int]], span: int) -> None:
    window = Window()
    now = NOW
    for age, wanted in ages:
        now += age
        window = window.add(now, wanted, HOUR)
    moved = window.moved(step)
    assert moved.within(now + step, span, 7) == window.within(now, span, 7)
    due = window.next_change_us(now, span)
    assert moved.next_change_us(now + step, span) == (None if due is None else due + step)


MOMENTS = st.lists(st.tuples(st.integers(1, HOUR), st.integers(0, 3), st.booleans(), STEP), min_size=1, max_size=12)


@given(moments=MOMENTS)
def test_nobody_was_silent_or_waited_for_longer(moments: list[tuple[int, int, bool, int]]) -> None:
    """What is learned is the same whether or not the clock was set in between."""
    learned = []
    for follows in (True, False):
        listening, now, set_us = Listening(Learner(Prior(), 30.0, 7.0)), NOW, 0
        last = 0
        for passes, held, wakes, step in moments:
            now += passes
            last = now if held else last
            there = now + set_us
            seen = last + set_us if last else 0
            listening.observe(Load(held, 0, seen, seen, there), there)
            if wakes:
                listening.woke()
            if follows:
                set_us += step
                listening.stepped(step)
        learned.append((listening.learner.gaps.filled(), listening.learner.waiting))
    assert learned[0] == learned[1]


@given(step=STEP)
def test_starts_take_as_long_as_they_do(step: int) -> None:
    starts = Starts()
    starts.observe(pod(Stage.SCHEDULED, waiting="ErrImagePull"), NOW)
    before = starts.pull_counts((pod(uid="p1"),), NOW + 24 * SECOND)
    due = starts.next_pull_us((pod(),), NOW)
    starts.stepped(step)
    seen = starts.first((pod(),), NOW + step)
    assert (seen.scheduled_us, seen.started_us) == (NOW + step, None)
    assert starts.pull_counts((pod(),), NOW + 24 * SECOND + step) == before == {"p1": 0}
    assert due is not None and starts.next_pull_us((pod(),), NOW + step) == due + step
    assert starts.pull_counts((pod(),), due + step) == {"p1": 2}


@given(step=STEP)
def test_a_rush_is_over_when_it_was(step: int) -> None:
    rush, still = Rush(), Rush()
    for number in range(20):
        for each in (rush, still):
            each.began(str(number), NOW + number * SECOND)
    rush.stepped(step)
    for seconds in (20, 65, 90):
        assert rush.wait_us(NOW + seconds * SECOND + step) == still.wait_us(NOW + seconds * SECOND)


def test_a_silence_makes_no_habit_of_a_clock_that_was_set() -> None:
    prewarmers, obj = Prewarmers(7.0), raw()
    obj["spec"]["scaling"] = {"idle": {"timeout": "5m"}, "prewarm": {"mode": "Enabled"}}
    endpoint = InferenceEndpoint.parse(obj)
    prewarmers.observe(endpoint, Load(0, 0, NOW, NOW, NOW), NOW)
    prewarmers.stepped(HOUR)
    came = NOW + MINUTE + HOUR
    prewarmers.observe(endpoint, Load(1, 0, came, came, came), came)
    known = prewarmers.look(endpoint, Load(1, 0, came, came, came), came)
    assert known is not None and known.habits.hours == {}


@pytest.mark.parametrize("step", [2 * HOUR, -2 * HOUR])
async def test_streams_are_measured_anew(step: int) -> None:
    """Until they are, nobody sleeps; then what an activator said is as long ago as it was."""
    made, wall = StandIn("act-0"), Wall()
    runner = web.AppRunner(made.app(), access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    clock, told = Clock(wall_ns=wall), asyncio.Event()
    streams = Streams(
        lambda: "",
        runner.addresses[0][1],
        clock,
        on_demand=lambda key: None,
        on_wake=lambda view, wake: None,
        on_membership=told.set,
    )

    def load() -> Load:
        return load_of("demo/a", "u1", streams.views, streams.names)

    async def follow() -> None:
        async with asyncio.timeout(10):
            while load().missing:
                told.clear()
                await told.wait()

    made.tell({"endpoint": "demo/a", "uid": "u1", "inFlight": 1})
    streams.start()
    streams.expect((Activator("act-0", "uid-0", "127.0.0.1", True),))
    await follow()
    ago_us = clock.now_us() - load().last_request_us
    wall.set_us = step
    assert clock.follow()
    streams.anew()
    assert load().missing == ("act-0",)
    await follow()
    assert load().in_flight == 1 and ago_us <= clock.now_us() - load().last_request_us < ago_us + 10 * SECOND
    assert clock.now_us() - load().reported_us < 10 * SECOND
    await streams.close()
    await runner.cleanup()
