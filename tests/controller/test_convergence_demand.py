"""Whoever calls and leaves, whenever, and whatever of it the API server heard: the status and the replicas are true.

Wakes are prepared here as ever, so what one of them meets is met by the look that records it as well.
"""

from __future__ import annotations

import asyncio
from typing import Any

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.controller.test_convergence import BOUND, FAILURES, STAGES, Server, World
from tests.reconcile.helpers import NOW, pod_object
from zerotide.api.demand import Delta, Demand, Report, Snapshot
from zerotide.api.scalars import SECOND
from zerotide.controller.activators import Activator
from zerotide.kube import Change, ConnectionFailed
from zerotide.reconcile.child import Kind
from zerotide.scaling.demand import View

Object = dict[str, Any]
Events = list[tuple[str, Any]]
SPEC: Object = {
    "runtime": {"engine": "custom", "image": "localhost/one:1"},
    "scaling": {"maxReplicas": 3, "concurrency": {"target": 2}, "idle": {"timeout": "10s"}},
}
ACTIVATORS = "x", "y"


class Unanswering(Server):
    """An API server whose answer to a scale may be lost, and during whose writes something may happen."""

    lost = False

    async def patch(self, *arguments: Any, **more: Any) -> Object:
        """Scale the Deployment."""
        self.meanwhile()
        made = await super().patch(*arguments, **more)
        self.kept["Deployment"] = made
        if self.lost:
            raise ConnectionFailed("cut off")
        return made


class Called(World):
    """One endpoint that is called by way of two activators, and sleeps when it is not."""

    def __init__(self, seed: int) -> None:
        self.answering = Unanswering()
        super().__init__(seed, SPEC, self.answering)
        self.came = dict.fromkeys(ACTIVATORS, 0)
        self.held = dict.fromkeys(ACTIVATORS, 0)
        streams = self.operator.streams
        streams.expect(tuple(Activator(name, f"u-{name}", "10.0.0.1", serves=True) for name in ACTIVATORS))
        for name in ACTIVATORS:
            streams.views[name] = View()
            streams.views[name].apply(Snapshot(activator=name, started_at_us=NOW, at_us=NOW), NOW)

    @property
    def _now_us(self) -> int:
        return NOW + int(self.now * SECOND)

    def call(self, name: str, held: int) -> None:
        """Have so many clients wait at one activator from now on."""
        self.came[name] += max(held - self.held[name], 0)
        self.held[name] = held
        at_us = self._now_us
        counts = {"held": held, "in_flight": 0, "arrivals": self.came[name]}
        demand = Demand(endpoint="demo/a", uid="u1", last_activity_us=at_us, **counts)
        self.operator.streams.views[name].apply(Delta(at_us=at_us, demand=demand), at_us)
        self.operator._demand_changed("demo/a")

    def during(self, call: tuple[str, int]) -> None:
        """Have clients come or leave while the next thing is written."""

        def once() -> None:
            self.server.meanwhile = lambda: None
            self.call(*call)

        self.server.meanwhile = once

    def news(self) -> None:
        """Have the watch tell of the Deployment as it is."""
        if "Deployment" in self.server.kept:
            self.operator.watches._kinds[Kind.DEPLOYMENT]._set(self.server.stored(self.server.kept["Deployment"]))

    def follow(self) -> None:
        """Have the cluster do what the Deployment says."""
        if self.server.kept["Deployment"]["spec"]["replicas"]:
            self.pod("ready")
        else:
            self.operator.watches._pod_changed(Change("deleted", pod_object("a-1")))

    async def pass_time(self, seconds: float) -> None:
        """Let time pass, at the end of which the activators report."""
        await super().pass_time(seconds)
        for view in self.operator.streams.views.values():
            view.apply(Report(at_us=self._now_us), self._now_us)


CALLS = st.tuples(st.sampled_from(ACTIVATORS), st.integers(0, 5))
EVENTS = st.one_of(
    st.tuples(st.just("call"), CALLS),
    st.tuples(st.just("call"), CALLS),
    st.tuples(st.just("during"), CALLS),
    st.tuples(st.just("pod"), st.sampled_from([*STAGES, "as the Deployment says"])),
    st.tuples(st.just("server"), st.sampled_from([*FAILURES, "unanswering"])),
    st.tuples(st.just("leads"), st.booleans()),
    st.tuples(st.just("news"), st.none()),
    st.tuples(st.just("time"), st.sampled_from([0.0, 0.05, 0.11, 0.3, 1.0, 5.0, 15.0])),
)


async def play(events: Events, stay: bool, seed: int) -> Called:
    """Have all this happen, then all clients leave but for one that may `stay`, and then nothing."""
    world = Called(seed)
    await world.pass_time(1.0)
    for what, value in events:
        match what:
            case "call":
                world.call(*value)
            case "during":
                world.during(value)
            case "pod" if value in STAGES:
                world.pod(value)
            case "pod":
                world.follow()
            case "server":
                world.server.failure, world.answering.lost = FAILURES.get(value), value == "unanswering"
            case "leads":
                world.leads = value
            case "news":
                world.news()
            case "time":
                await world.pass_time(value)
    world.server.failure, world.answering.lost, world.leads = None, False, True
    world.server.meanwhile = lambda: None
    for name in ACTIVATORS:
        world.call(name, int(stay and name == "x"))
    for _ in range(5):
        world.news()
        await world.pass_time(BOUND)
        world.follow()
    await world.pass_time(1.0)
    return world


@given(events=st.lists(EVENTS, max_size=40), stay=st.booleans(), seed=st.integers(0, 3))
@example(events=[("call", ("x", 1)), ("time", 0.05), ("call", ("x", 0))], stay=False, seed=1)
@example(events=[("server", "unanswering"), ("call", ("x", 1)), ("time", 0.05), ("call", ("x", 0))], stay=False, seed=1)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_once_nobody_comes_or_leaves_the_status_and_the_replicas_are_true(
    events: Events, stay: bool, seed: int
) -> None:
    """One replica for whoever stays, none for nobody; each decision goes on from the one before."""
    world = asyncio.run(play(events, stay, seed))
    status, reconciler = world.server.status, world.operator.reconciler
    assert world.server.kept["Deployment"]["spec"]["replicas"] == status["desiredReplicas"] == int(stay)
    assert status["readyReplicas"] == world.ready == int(stay)
    assert status["state"] == ("Awake" if stay else "Asleep")
    decisions = status.get("decisions", [])
    assert [each["from"] for each in decisions[:-1]] == [each["to"] for each in decisions[1:]]
    assert not decisions or decisions[0]["to"] == int(stay)
    assert reconciler._woken == {} and ("demo/a" in reconciler.ready) is not stay


def test_a_wake_that_was_prepared_is_sent_before_a_look_and_recorded_by_one() -> None:
    """However soon its client left."""
    world = asyncio.run(play([("call", ("x", 1)), ("time", 0.05), ("call", ("x", 0)), ("time", 0.05)], False, 1))
    assert [(each["from"], each["to"], each["reason"]) for each in world.server.status["decisions"]] == [
        (1, 0, "Idle"),
        (0, 1, "Demand"),
    ]
