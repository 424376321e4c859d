"""The way of a wake to its write: how large it is, and that nothing is looked at for what was worked out before."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.reconcile.helpers import NOW, raw
from zerotide.api.demand import Delta, Demand, Snapshot
from zerotide.api.names import ANNOTATION_RENDERED_DIGEST, KIND_ENDPOINT
from zerotide.api.scalars import SECOND
from zerotide.controller import reconciler
from zerotide.controller.activators import Activator
from zerotide.controller.options import parse
from zerotide.controller.process import Operator
from zerotide.kube import Forbidden
from zerotide.kube.encoding import decode, encode
from zerotide.reconcile.child import Kind
from zerotide.reconcile.rendering import render_all
from zerotide.scaling.demand import View

Object = dict[str, Any]
SPEC: Object = {"runtime": {"engine": "custom", "image": "localhost/one:1"}}


class Server:
    """An API server as far as one endpoint needs it."""

    def __init__(self) -> None:
        self.versions = itertools.count(100)
        self.deployment: Object = {}
        self.scaled: list[int] = []
        self.on_scale: Callable[[], None] = lambda: None
        self.applied: list[Object] = []
        self.status: Object = {}
        self.spec: Object = SPEC

    def stored(self, obj: Object) -> Object:
        """Return an object as it is answered."""
        made: Object = decode(encode(obj))
        metadata = {"uid": f"u-{obj['kind']}", **made["metadata"]}
        made["metadata"] = {**metadata, "resourceVersion": str(next(self.versions))}
        return made

    async def create(self, _: Any, obj: Object, **__: Any) -> Object:
        """Make a child."""
        made = self.stored(obj)
        if obj["kind"] == "Deployment":
            self.deployment = made
        return made

    async def apply(self, _: Any, obj: Object, __: str, *, subresource: str = "", **___: Any) -> Object:
        """Take in a status, or a child."""
        if subresource:
            self.status = obj["status"]
            return self.stored(raw(self.spec, status=self.status))
        self.applied.append(obj)
        return self.stored(obj)

    async def patch(self, _: Any, name: str, namespace: str, patch: Any, **__: Any) -> Object:
        """Scale the Deployment, or join managers of fields."""
        if isinstance(patch, dict):
            self.on_scale()
            self.scaled.append(patch["spec"]["replicas"])
            self.deployment["spec"]["replicas"] = patch["spec"]["replicas"]
        return self.stored(self.deployment)

    async def get(self, *_: Any) -> Object:
        """Return the Deployment."""
        return self.deployment


class World:
    """One endpoint that sleeps, its activator, and how often it was rendered."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.server, self.rendered = Server(), 0
        self.operator = Operator(self.server, parse([], {"POD_NAME": "op-0"}))  # type: ignore[arg-type]
        self.operator.executor._leading = lambda: True
        self.operator.streams.expect((Activator("x", "ux", "10.0.0.1", serves=True),))
        self.operator.streams.views["x"] = self.view = View()
        self.view.apply(Snapshot(activator="x", started_at_us=NOW, at_us=NOW), NOW)

        def rendering(*arguments: Any) -> Any:
            self.rendered += 1
            return render_all(*arguments)

        monkeypatch.setattr(reconciler, "render_all", rendering)

    async def look(self) -> None:
        """Look at the endpoint, of which nothing is kept from the look before but what is kept of all."""
        self.operator.reconciler._rendered.pop("demo/a")
        await self.operator.reconciler.reconcile("demo/a")

    async def asleep(self, spec: Object = SPEC) -> None:
        """Make its children."""
        self.server.spec = spec
        self.operator.on_event("ADDED", raw(spec))
        assert self.operator.queue._schedule.take(0.0) == "demo/a"
        self.operator.queue._schedule.done("demo/a")
        await self.look()
        assert self.server.deployment["spec"]["replicas"] == 0 and self.rendered == 1
        self.hold(0)

    def hold(self, held: int, *, before: int = 0, in_flight: int = 0, at_us: int = NOW) -> None:
        """Tell what is held and in flight, and how many came before those that are held."""
        counts = {"held": held, "in_flight": in_flight, "arrivals": before + held}
        demand = Demand(endpoint="demo/a", uid="u1", last_activity_us=at_us, **counts)
        self.view.apply(Delta(at_us=at_us, demand=demand), at_us)


async def test_a_wake_is_written_before_anything_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """And the look after it renders, compares and records as ever."""
    world, seen = World(monkeypatch), list[int]()
    await world.asleep()
    world.server.on_scale = lambda: seen.append(world.rendered)
    world.operator.endpoints._parsed.pop("demo/a")
    world.hold(1)
    world.operator._demand_changed("demo/a")
    assert world.operator.queue._schedule.take(0.0) == "demo/a"
    assert world.operator.endpoints._parsed.get("demo/a") is None
    await world.look()
    assert world.server.scaled == [1] and seen == [1] and world.rendered == 1
    assert 0 < (world.operator.queue._schedule.next_due() or 0) - time.monotonic() <= 0.1
    await world.look()
    assert world.server.scaled == [1] and world.rendered == 2
    decided = world.operator.reconciler._held["demo/a"].status["lastDecision"]
    assert (decided["from"], decided["to"], decided["reason"]) == (0, 1, "Demand")
    assert 'zerotide_decisions_total{reason="Demand"} 1.0' in world.operator.metrics.text().decode()
    await world.look()
    assert world.server.scaled == [1] and world.rendered == 3


@pytest.mark.parametrize(("most", "held", "scaled"), [(1, 20, [1]), (9, 8, [1]), (9, 20, [3]), (2, 40, [2])])
async def test_a_wake_is_one_write_whatever_is_held(
    monkeypatch: pytest.MonkeyPatch, most: int, held: int, scaled: list[int]
) -> None:
    """What was worked out for one request is not written where more ask for more."""
    world = World(monkeypatch)
    await world.asleep({**SPEC, "scaling": {"maxReplicas": most}})
    world.hold(held)
    world.operator._demand_changed("demo/a")
    await world.look()
    assert world.server.scaled == scaled


async def test_who_left_before_the_write_wakes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor does what is asked of an endpoint that had its name."""
    world = World(monkeypatch)
    await world.asleep()
    world.hold(1)
    world.operator._demand_changed("demo/a")
    world.hold(0, before=1)
    await world.look()
    demand = Demand(endpoint="demo/a", uid="another", held=1, in_flight=0, arrivals=1, last_activity_us=NOW)
    world.view.apply(Delta(at_us=NOW, demand=demand), NOW)
    world.operator._demand_changed("demo/a")
    await world.look()
    assert world.server.scaled == [] and world.operator.signals.called_us("demo/a") is not None


News = Callable[[Operator], object]
NEWS: dict[str, News] = {
    "object": lambda it: it.on_event("MODIFIED", raw(SPEC, resourceVersion="999")),
    "child": lambda it: it._changed("demo/a"),
    "names": lambda it: it._look_at({"demo/a"}),
    "budget": lambda it: it._look_at_all_of("demo"),
    "list": lambda it: it._take([raw(SPEC, resourceVersion="999")]),
    "cost": lambda it: it._cost_changed("demo/a"),
    "end": lambda it: it._gone("demo/a", "u1"),
}


@pytest.mark.parametrize("news", NEWS.values(), ids=NEWS)
@pytest.mark.parametrize("meanwhile", [False, True], ids=["after the look", "during the look"])
async def test_news_of_anything_but_the_demand_call_for_a_whole_look(
    monkeypatch: pytest.MonkeyPatch, news: News, meanwhile: bool
) -> None:
    """Whether they come while it sleeps, or while the look is under way that would have worked out its wake."""
    world = World(monkeypatch)
    if meanwhile:
        real = world.server.apply

        async def apply(*arguments: Any, **more: Any) -> Any:
            news(world.operator)
            return await real(*arguments, **more)

        monkeypatch.setattr(world.server, "apply", apply)
    await world.asleep()
    assert ("demo/a" in world.operator.reconciler.ready) is not meanwhile
    if not meanwhile:
        news(world.operator)
    assert "demo/a" not in world.operator.reconciler.ready


async def test_a_wake_that_is_refused_is_told_by_the_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """As one is that was not worked out before."""

    def refuse() -> None:
        raise Forbidden(403, "Forbidden", "a quota is used up")

    world = World(monkeypatch)
    await world.asleep()
    world.server.on_scale = refuse
    world.hold(1)
    world.operator._demand_changed("demo/a")
    await world.look()
    assert "a quota is used up" in str(world.operator.reconciler._refused["demo/a"].error)
    assert world.server.scaled == []


@pytest.mark.parametrize("changed", ["spec", "rendering"])
async def test_what_is_not_deployed_as_it_should_be_is_rendered(monkeypatch: pytest.MonkeyPatch, changed: str) -> None:
    """A spec that changed meanwhile, or an older operator's Deployment, is applied with the wake."""
    world = World(monkeypatch)
    await world.asleep()
    if changed == "spec":
        spec = {"runtime": {"engine": "custom", "image": "localhost/another:1"}}
        world.operator.on_event("MODIFIED", raw(spec, generation=2, resourceVersion="999"))
    else:
        annotations = world.server.deployment["metadata"]["annotations"]
        annotations[ANNOTATION_RENDERED_DIGEST] = "an older one"
        world.operator.watches.children.wrote(Kind.DEPLOYMENT, "demo/a", world.server.stored(world.server.deployment))
        world.operator._changed("demo/a")
        await world.look()
    before = world.rendered
    world.hold(1)
    await world.look()
    assert world.rendered == before + 1 and world.server.applied[0]["spec"]["replicas"] == 1


async def test_a_wake_is_as_large_as_what_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests of a second each were seen, and starts of ten: of forty that are held eight count, for one replica."""
    world = World(monkeypatch)
    await world.asleep()
    starts = {"window": 20, "count": 1, "p50": "10s", "p90": "10s", "recent": ["10s"]}
    spec = {**SPEC, "scaling": {"maxReplicas": 9}}
    obj = raw(spec, status={**world.server.status, "coldStarts": starts}, resourceVersion="999")
    world.operator.on_event("MODIFIED", obj)
    endpoint = world.operator.endpoints.parsed("demo/a")
    assert endpoint is not None
    for second in range(21):
        at_us = NOW + second * SECOND
        world.hold(0, before=min(second + 1, 20), in_flight=int(second < 20), at_us=at_us)
        world.operator.signals.load(endpoint, at_us)
    world.hold(40, before=20, at_us=NOW + 21 * SECOND)
    await world.look()
    assert world.server.scaled == [1]
    decided = world.operator.reconciler._held["demo/a"].status["lastDecision"]["message"]
    assert decided.startswith("40 requests held, which count as 8 until") and "take 1s each" in decided


async def test_a_wake_in_a_hurry_proves_nothing_and_forgets_no_proof(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was proven of a spec is known by its digest, which a wake leaves as it is."""
    world = World(monkeypatch)
    spec = {**SPEC, "start": {"verify": "OnChange"}}
    world.operator.on_event("ADDED", raw(spec))
    await world.look()
    digest = world.server.status["verification"]["specDigest"]
    proven = {"specDigest": digest, "outcome": "Succeeded", "failures": 0, "reason": "Started", "message": "it was"}
    slept = {**world.server.status, "desiredReplicas": 0, "verification": proven}
    world.operator.reconciler._held.clear()
    world.operator.on_event("MODIFIED", raw(spec, status=slept, resourceVersion="999"))
    live = world.server.stored(world.server.deployment)
    live["spec"]["replicas"] = 0
    world.server.deployment = live
    world.operator.watches.children.wrote(Kind.DEPLOYMENT, "demo/a", live)
    await world.look()
    world.hold(1)
    await world.look()
    assert world.server.scaled[-1] == 1
    assert world.server.status["verification"] == proven
    verified = next(each for each in world.server.status["conditions"] if each["type"] == "Verified")
    assert verified["status"] == "True"


async def test_what_others_wrote_while_a_status_was_written_calls_for_a_whole_look(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It comes with the answer, after what the look saw: one that is suspended by it is not woken."""
    world = World(monkeypatch)
    stored, suspended = world.server.stored, raw({**SPEC, "suspend": True}, generation=2)
    monkeypatch.setattr(world.server, "stored", lambda obj: stored(suspended if obj["kind"] == KIND_ENDPOINT else obj))
    await world.asleep()
    assert "demo/a" not in world.operator.reconciler.ready
    world.hold(1)
    world.operator._demand_changed("demo/a")
    await world.look()
    assert world.server.scaled == []


async def test_one_that_ends_while_its_wake_is_written_wakes_no_successor(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody called that one."""
    world = World(monkeypatch)
    await world.asleep()
    world.server.on_scale = lambda: world.operator._gone("demo/a", "u1")
    world.hold(1)
    world.operator._demand_changed("demo/a")
    await world.look()
    world.operator.watches.children.lost(Kind.DEPLOYMENT, "demo/a")
    world.operator.on_event("ADDED", raw(SPEC, uid="u2", resourceVersion="999"))
    await world.look()
    assert world.server.deployment["metadata"]["ownerReferences"][0]["uid"] == "u2"
    assert world.server.deployment["spec"]["replicas"] == 0


async def test_a_wake_that_grows_before_it_is_recorded_is_one_wake(monkeypatch: pytest.MonkeyPatch) -> None:
    """With one time that it took to decide."""
    world = World(monkeypatch)
    await world.asleep({**SPEC, "scaling": {"maxReplicas": 9}})
    world.hold(1)
    world.operator._demand_changed("demo/a")
    await world.look()
    world.hold(20)
    world.operator._demand_changed("demo/a")
    await world.look()
    assert world.server.scaled == [1, 3]
    assert "zerotide_wake_decision_seconds_count 1.0" in world.operator.metrics.text().decode()
