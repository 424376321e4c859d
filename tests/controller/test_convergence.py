"""Whatever happens to an endpoint's pod, its watch, the API server and the lease: once it is quiet, the status is true.

Time is the test's own; the operator is whole but for its sockets.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.reconcile.helpers import NOW, pod_object, raw
from zerotide.api.scalars import SECOND
from zerotide.controller.options import parse
from zerotide.controller.process import Operator
from zerotide.kube import Change, Conflict, ConnectionFailed, KubeError, NotFound, TooManyRequests, Unavailable
from zerotide.kube.encoding import decode, encode

Object = dict[str, Any]
SPEC: Object = {
    "runtime": {"engine": "custom", "image": "localhost/one:1"},
    "scaling": {"maxReplicas": 2, "pinnedReplicas": 1},
}
BOUND = 20.0
"""Seconds after which the status is true: the longest pause for a server that was away, and some."""
STAGES: dict[str, Object] = {
    "pending": {"scheduled": False},
    "scheduled": {"state": {"waiting": {"reason": "ContainerCreating"}}},
    "running": {"state": {"running": {}}},
    "ready": {"state": {"running": {}}, "ready": True},
}
FAILURES: dict[str, KubeError | None] = {
    "well": None,
    "away": ConnectionFailed("refused"),
    "failing": Unavailable(500, "", "etcdserver: request timed out"),
    "busy": TooManyRequests(429, "", "later"),
    "contended": Conflict(409, "Conflict", "the object has been modified"),
    "not served": NotFound(404, "NotFound", "the server could not find the requested resource"),
}


class Server:
    """An API server that keeps one endpoint's status and fails as it is told to."""

    def __init__(self) -> None:
        self.versions = itertools.count(100)
        self.failure: KubeError | None = None
        self.spec = SPEC
        self.kept: dict[str, Object] = {}
        self.status: Object = {}
        self.others: Object = {}
        """What others have written of the endpoint: its spec, its metadata, their part of the status."""
        self.meanwhile: Callable[[], None] = lambda: None
        """What happens just before a status is written."""

    def endpoint(self) -> Object:
        """Return the endpoint, in a new version."""
        status = {**self.status, **self.others.get("status", {})}
        return self.stored(raw(self.others.get("spec", self.spec), status=status, **self.others.get("metadata", {})))

    def stored(self, obj: Object) -> Object:
        """Return an object as it is answered."""
        made: Object = decode(encode(obj))
        made["metadata"] = {"uid": f"u-{obj['kind']}", **made["metadata"], "resourceVersion": str(next(self.versions))}
        return made

    def _answer(self) -> None:
        if self.failure is not None:
            raise self.failure

    async def create(self, _: Any, obj: Object, **__: Any) -> Object:
        """Make a child."""
        self._answer()
        self.kept[obj["kind"]] = made = self.stored(obj)
        return made

    async def apply(self, _: Any, obj: Object, __: str, *, subresource: str = "", **___: Any) -> Object:
        """Take in a status, or a child."""
        self._answer()
        if subresource:
            self.meanwhile()
            self.status = decode(encode(obj["status"]))
            return self.endpoint()
        return await self.create(None, obj)

    async def patch(self, _: Any, name: str, namespace: str, patch: Any, **__: Any) -> Object:
        """Scale the Deployment."""
        self._answer()
        if isinstance(patch, dict):
            self.kept["Deployment"]["spec"]["replicas"] = patch["spec"]["replicas"]
        return self.stored(self.kept["Deployment"])

    async def get(self, resource: Any, *_: Any) -> Object:
        """Return a child."""
        self._answer()
        return self.kept[resource.kind]


class World:
    """One endpoint with one pod, and the time."""

    def __init__(self, seed: int, spec: Object = SPEC, server: Server | None = None) -> None:
        self.server, self.now, self.leads = server or Server(), 0.0, True
        self.server.spec = spec
        self.operator = made = Operator(self.server, parse([], {"POD_NAME": "op-0"}))  # type: ignore[arg-type]
        clock: Any = made._clock
        clock.now_us = lambda: NOW + int(self.now * SECOND)
        made.queue._clock, made.queue._rng = (lambda: self.now), random.Random(seed)
        made.executor._leading = lambda: self.leads
        made.executor._pace.delay = lambda: 0.0  # type: ignore[method-assign]
        made.on_event("ADDED", raw(spec))

    @property
    def ready(self) -> int:
        """Return how many pods are ready in truth."""
        return sum(pod.ready_us is not None and pod.stage.name == "READY" for pod in self._pods)

    @property
    def _pods(self) -> Iterable[Any]:
        return self.operator.watches.pods.of("demo/a")

    async def settle(self) -> None:
        """Do what is due now, a bounded number of times."""
        schedule = self.operator.queue._schedule
        for _ in range(50):
            key = schedule.take(self.now)
            if key is None:
                return
            await self.operator.queue._one(key)
        raise AssertionError("it spins")

    async def pass_time(self, seconds: float) -> None:
        """Let time pass, from one thing that is due to the next."""
        end = self.now + seconds
        await self.settle()
        while (due := self.operator.queue._schedule.next_due()) is not None and due <= end:
            self.now = max(self.now, due)
            await self.settle()
        self.now = end

    def pod(self, stage: str) -> None:
        """Have the pod change."""
        digest = ""
        if "Deployment" in self.server.kept:
            template = self.server.kept["Deployment"]["spec"]["template"]
            digest = template["metadata"]["annotations"]["zerotide.dev/spec-digest"]
        obj = pod_object("a-1", digest=digest, resourceVersion=str(next(self.server.versions)), **STAGES[stage])
        self.operator.watches._pod_changed(Change("set", obj))


EVENTS = st.one_of(
    st.tuples(st.just("pod"), st.sampled_from(list(STAGES))),
    st.tuples(st.just("server"), st.sampled_from(list(FAILURES))),
    st.tuples(st.just("leads"), st.booleans()),
    st.tuples(st.just("time"), st.sampled_from([0.0, 0.05, 0.11, 0.3, 1.0, 5.0])),
)


async def play(events: list[tuple[str, Any]], seed: int) -> World:
    """Have all this happen, then a pod that is ready, and then nothing."""
    world = World(seed)
    for what, value in events:
        match what:
            case "pod":
                world.pod(value)
            case "server":
                world.server.failure = FAILURES[value]
            case "leads":
                world.leads = value
            case "time":
                await world.pass_time(value)
    world.server.failure, world.leads = None, True
    await world.pass_time(BOUND)
    return world


@given(events=st.lists(EVENTS, max_size=60), seed=st.integers(0, 3))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_once_it_is_quiet_the_status_is_true(events: list[tuple[str, Any]], seed: int) -> None:
    """Within seconds, although the last thing that happened may have met a server that was away."""
    world = asyncio.run(play(events, seed))
    assert world.server.status["readyReplicas"] == world.ready
    assert world.server.kept["Deployment"]["spec"]["replicas"] == 1
    assert (world.server.status["state"] == "Awake") is bool(world.ready)


def test_a_burst_that_meets_a_short_outage_is_told_soon_after() -> None:
    """A start's dozen changes within two seconds, each refused, are no dozen failures in a row."""
    burst: list[tuple[str, Any]] = [("time", 0.0), ("server", "failing")]
    for stage in ["pending", "scheduled", "running"] * 4 + ["ready"]:
        burst += [("pod", stage), ("time", 0.11)]
    world = asyncio.run(play(burst, 1))
    assert world.server.status["readyReplicas"] == 1


def test_a_status_that_met_another_writer_is_written_again() -> None:
    """A conflict need not mean that the endpoint is another one."""
    events = [
        ("time", 0.3),
        ("pod", "running"),
        ("time", 1.0),
        ("server", "contended"),
        ("pod", "ready"),
        ("time", 0.3),
    ]
    world = asyncio.run(play(events, 1))
    assert world.server.status["readyReplicas"] == 1


WISH = {"id": "w", "time": "2026-09-21T14:12:30Z", "by": "a"}


@pytest.mark.parametrize(
    ("others", "replicas"),
    [
        ({"spec": {**SPEC, "scaling": {"maxReplicas": 2, "pinnedReplicas": 2}}, "metadata": {"generation": 2}}, 2),
        ({"metadata": {"annotations": {"zerotide.dev/wake-requested-at": "2026-09-21T14:12:30Z"}}}, 1),
        ({"status": {"wakeRequest": WISH}}, 1),
    ],
    ids=["spec", "annotation", "wish"],
)
def test_what_others_write_while_a_status_is_written_is_acted_upon(others: Object, replicas: int) -> None:
    """The answer to the write has it already, so what the watch tells of it is no news."""

    async def scenario() -> World:
        world = World(1)
        if replicas == 1:
            world.server.others = {"spec": {**SPEC, "scaling": {"maxReplicas": 2}}}
            world.operator.on_event("MODIFIED", world.server.endpoint())
        told: list[Object] = []

        def once() -> None:
            if not told:
                world.server.others |= others
                told.append(world.server.endpoint())

        world.server.meanwhile = once
        await world.settle()
        world.operator.on_event("MODIFIED", told[0])
        await world.pass_time(BOUND)
        return world

    world = asyncio.run(scenario())
    assert world.server.kept["Deployment"]["spec"]["replicas"] == replicas


def test_one_that_is_deleted_while_its_status_is_written_stays_gone() -> None:
    """The watch may tell of its end before the write is answered."""

    async def scenario() -> World:
        world = World(1)
        world.server.meanwhile = lambda: world.operator.on_event("DELETED", raw(SPEC))
        await world.pass_time(BOUND)
        return world

    assert list(asyncio.run(scenario()).operator.endpoints) == []
