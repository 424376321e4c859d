"""The way of a wake to its write: what is deployed as it should be is not rendered while somebody waits."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from tests.reconcile.helpers import NOW, raw
from zerotide.api.demand import Delta, Demand, Snapshot
from zerotide.api.names import ANNOTATION_RENDERED_DIGEST
from zerotide.controller import reconciler
from zerotide.controller.options import parse
from zerotide.controller.process import Operator
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
        self.applied: list[Object] = []

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
        if not subresource:
            self.applied.append(obj)
        return self.stored(raw(SPEC, status=obj["status"]) if subresource else obj)

    async def patch(self, _: Any, name: str, namespace: str, patch: Any, **__: Any) -> Object:
        """Scale the Deployment, or join managers of fields."""
        if isinstance(patch, dict):
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

    async def asleep(self) -> None:
        """Make its children."""
        self.operator.on_event("ADDED", raw(SPEC))
        await self.look()
        assert self.server.deployment["spec"]["replicas"] == 0 and self.rendered == 1
        self.hold(0)

    def hold(self, held: int) -> None:
        """Tell what is held."""
        demand = Demand(endpoint="demo/a", uid="u1", held=held, in_flight=0, arrivals=held, last_activity_us=NOW)
        self.view.apply(Delta(at_us=NOW, demand=demand), NOW)


async def test_a_wake_is_written_without_rendering(monkeypatch: pytest.MonkeyPatch) -> None:
    """And the look after it renders and compares as ever."""
    world = World(monkeypatch)
    await world.asleep()
    world.hold(1)
    await world.look()
    assert world.server.scaled == [1] and world.rendered == 1
    await world.look()
    assert world.server.scaled == [1] and world.rendered == 2


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
    world.hold(1)
    await world.look()
    assert world.rendered == 2 and world.server.applied[0]["spec"]["replicas"] == 1
