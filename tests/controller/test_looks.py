"""What each look at an endpoint starts from, what it writes, and when the next one is."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest

from tests.controller.test_hurry import SPEC, World
from tests.reconcile.helpers import NOW, pod_object, raw
from zerotide.api.demand import Delta, Demand
from zerotide.api.names import MANAGER_OPERATOR
from zerotide.api.scalars import SECOND
from zerotide.controller.schedule import Priority
from zerotide.kube import Change, Unavailable
from zerotide.reconcile import status as statuses
from zerotide.reconcile.child import Kind
from zerotide.reconcile.rendering import ANNOTATION_SPEC_DIGEST
from zerotide.scaling.decide import Why


async def woken(monkeypatch: pytest.MonkeyPatch, *, recorded: bool = False) -> World:
    """Return a world whose endpoint was woken just now, which its status does not say yet, but a look may know."""
    world = World(monkeypatch)
    await world.asleep()
    world.hold(1)
    await world.look()
    assert world.server.scaled == [1] and world.server.status["desiredReplicas"] == 0
    if recorded:
        await world.look()
        assert world.server.scaled == [1]
    return world


@pytest.mark.parametrize("recorded", [False, True])
async def test_a_client_that_leaves_takes_no_wake_back(monkeypatch: pytest.MonkeyPatch, recorded: bool) -> None:
    """Neither before the status says that it was decided, nor before a look has."""
    world = await woken(monkeypatch, recorded=recorded)
    world.hold(0, before=1)
    for _ in range(2):
        await world.look()
        assert world.server.scaled == [1]
    decided = world.operator.reconciler._held["demo/a"].status["lastDecision"]
    assert (decided["from"], decided["to"], decided["reason"]) == (0, 1, "Demand")
    assert world.operator.reconciler._woken == {}


@pytest.mark.parametrize(
    ("in_flight", "told", "manager", "scaled"),
    [(1, True, MANAGER_OPERATOR, []), (0, False, MANAGER_OPERATOR, []), (1, True, "kubectl", [0])],
)
async def test_an_operator_that_died_before_it_recorded_a_wake_left_it_to_the_next(
    monkeypatch: pytest.MonkeyPatch, in_flight: int, told: bool, manager: str, scaled: list[int]
) -> None:
    """Whose replicas they are the Deployment says; what serves may have requests of which nothing was told yet."""
    before, world = await woken(monkeypatch), World(monkeypatch)
    world.server.deployment = live = before.server.deployment
    fields: dict[str, Any] = {"f:spec": {"f:replicas": {}}}
    live["metadata"]["managedFields"] = [{"manager": manager, "operation": "Update", "fieldsV1": fields}]
    world.operator.on_event("ADDED", raw(SPEC, status=before.server.status))
    world.operator.watches.children.wrote(Kind.DEPLOYMENT, "demo/a", world.server.stored(live))
    world.hold(0, before=1, in_flight=in_flight)
    if not told:
        world.operator.streams.views.clear()
    await world.look()
    assert world.server.scaled == scaled
    if not scaled:
        decided = world.operator.reconciler._held["demo/a"].status["lastDecision"]
        assert (decided["from"], decided["to"], decided["message"]) == (0, 1, "it was woken before")


async def test_a_decision_is_for_the_deployment_that_was_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """And not for one that has its name by now: the write names its uid."""
    world, patches = World(monkeypatch), list[Any]()
    await world.asleep()
    real = world.server.patch

    async def patch(resource: Any, name: str, namespace: str, body: Any, **more: Any) -> Any:
        patches.append(body)
        return await real(resource, name, namespace, body, **more)

    monkeypatch.setattr(world.server, "patch", patch)
    world.hold(1)
    await world.look()
    assert patches == [{"metadata": {"uid": world.server.deployment["metadata"]["uid"]}, "spec": {"replicas": 1}}]


async def test_what_time_alone_changes_is_looked_at_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A step of a start that is to be written half a second later."""
    later: list[float] = []
    world = World(monkeypatch)
    await world.asleep()
    monkeypatch.setattr(world.operator.reconciler, "_later", lambda key, seconds: later.append(seconds))
    world.hold(1)
    await world.look()
    assert later and 0 < min(later) <= 0.5


async def test_a_start_is_told_to_who_records_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """With its reason, and it is counted."""
    world = await woken(monkeypatch)
    endpoint = world.operator.endpoints.parsed("demo/a")
    assert endpoint is not None and world.operator.signals._causes == {"demo/a": Why.DEMAND.value}
    assert world.operator.signals.cause(endpoint) == "Request"
    assert 'zerotide_decisions_total{reason="Demand"} 1.0' in world.operator.metrics.text().decode()


@pytest.mark.parametrize(("replicas", "first"), [(0, Priority.WAKE), (1, Priority.CHANGE)])
async def test_who_is_held_before_there_are_replicas_goes_first(
    monkeypatch: pytest.MonkeyPatch, replicas: int, first: Priority
) -> None:
    """Somebody waits for that look; one more request that waits for a replica that serves can wait for it."""
    world = World(monkeypatch)
    world.operator.on_event("ADDED", raw(SPEC, status={"desiredReplicas": replicas}))
    added: list[tuple[str, Priority]] = []
    monkeypatch.setattr(world.operator.queue, "add", lambda key, priority: added.append((key, priority)))
    demand = Demand(endpoint="demo/a", uid="u1", held=1, in_flight=0, arrivals=1, last_activity_us=NOW)
    world.view.apply(Delta(at_us=NOW, demand=demand), NOW)
    world.operator._demand_changed("demo/a")
    assert added == [("demo/a", first)]


async def test_a_start_that_is_given_up_is_counted_by_what_asked_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second after who waits was told why."""
    world = await woken(monkeypatch, recorded=True)
    clock = world.operator._clock
    began_us = clock.now_us()
    digest = world.server.deployment["spec"]["template"]["metadata"]["annotations"][ANNOTATION_SPEC_DIGEST]
    # It got its node months ago.
    world.operator.watches.pods.take(Change("set", pod_object(digest=digest)), began_us)
    await world.look()
    assert world.server.status["state"] == "Failed" and world.server.scaled == [1]
    monkeypatch.setattr(clock, "now_us", lambda: began_us + 5 * SECOND)
    await world.look()
    assert world.server.scaled == [1, 0] and world.server.status["lastDecision"]["reason"] == "StartFailed"
    assert 'zerotide_wakes_total{cause="Request",outcome="failed"} 1.0' in world.operator.metrics.text().decode()


@pytest.mark.parametrize("step", [True, False])
async def test_a_status_that_is_not_written_takes_no_replica_from_whom_it_serves(
    monkeypatch: pytest.MonkeyPatch, step: bool
) -> None:
    """What was decided stays so until it can be told, whether or not its telling might have waited."""
    world = await woken(monkeypatch)
    reconciler, apply = world.operator.reconciler, world.server.apply

    async def away(*_: Any, **__: Any) -> Any:
        raise Unavailable(500, "", "etcdserver: request timed out")

    monkeypatch.setattr(world.server, "apply", away)
    if step:
        await world.look()
        reconciler._held["demo/a"] = replace(reconciler._held["demo/a"], since_us=0)
    else:
        monkeypatch.setattr(statuses, "CALM_US", 0)
    with pytest.raises(Unavailable):
        await world.look()
    world.hold(0, before=1, in_flight=1)
    with suppress(Unavailable):
        await world.look()
    assert world.server.scaled == [1]
    monkeypatch.setattr(world.server, "apply", apply)
    await world.look()
    assert world.server.scaled == [1] and reconciler._held == {}
    decided = world.server.status["lastDecision"]
    assert (decided["from"], decided["to"], decided["reason"]) == (0, 1, "Demand")
