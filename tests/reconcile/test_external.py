"""Somebody else's replicas: put back, and told without noise, however stubborn the writer."""

from __future__ import annotations

from typing import Any

import pytest

from tests.reconcile.helpers import NOW
from tests.reconcile.world import World
from zerotide.api.scalars import HOUR, MINUTE, SECOND
from zerotide.controller.trimming import trimmed_child
from zerotide.reconcile.child import Kind
from zerotide.reconcile.external import Writer, sight, writers

OURS: dict[str, Any] = {
    "manager": "zerotide-operator",
    "operation": "Apply",
    "fieldsV1": {"f:spec": {"f:replicas": {}, "f:template": {}}},
}
THEIRS: dict[str, Any] = {
    "manager": "kubectl",
    "operation": "Update",
    "subresource": "scale",
    "fieldsV1": {"f:spec": {"f:replicas": {}}},
}
STATUS: dict[str, Any] = {"manager": "kube-controller-manager", "fieldsV1": {"f:status": {"f:replicas": {}}}}


def live(replicas: int, *entries: dict[str, Any]) -> dict[str, Any]:
    """Return a Deployment."""
    return {"metadata": {"name": "a", "managedFields": list(entries)}, "spec": {"replicas": replicas}}


def test_only_who_writes_replicas_is_kept_of_the_managers() -> None:
    """The rest of managedFields is two thirds of the object, and nobody reads it."""
    kept = trimmed_child(live(3, OURS, THEIRS, STATUS))["metadata"]["managedFields"]
    assert [entry["manager"] for entry in kept] == ["zerotide-operator", "kubectl"]
    assert writers(kept) == kept
    assert "managedFields" not in trimmed_child(live(3, STATUS))["metadata"]


def test_a_foreign_writer_is_seen_by_what_differs() -> None:
    """Other replicas than were decided, by another manager; our own change that is under way is none."""
    seen = sight(live(3, OURS, THEIRS), 0, None, NOW)
    assert seen == Writer("kubectl by its scale", NOW, NOW)
    assert sight(live(0, OURS, THEIRS), 0, None, NOW) is None, "whoever agrees does no harm"
    assert sight(live(1, OURS, STATUS), 0, None, NOW) is None, "decided, and not in the status yet"
    assert sight(live(3, THEIRS), None, None, NOW) is None, "nothing was decided yet"
    assert sight(None, 0, None, NOW) is None


def test_a_sighting_is_told_for_a_while() -> None:
    """From the last time on; a fight is one sighting."""
    first = sight(live(3, THEIRS), 0, None, NOW)
    assert first is not None
    again = sight(live(4, THEIRS), 0, first, NOW + MINUTE)
    assert again == Writer("kubectl by its scale", NOW, NOW + MINUTE)
    assert sight(live(0, OURS), 0, again, NOW + 11 * MINUTE - 1) is again
    assert sight(live(0, OURS), 0, again, NOW + 11 * MINUTE) is None


def test_it_is_one_condition_and_one_event() -> None:
    """Reconciling tells it, since it is put back; nothing is written while it goes on, and it ends."""
    world = World()
    world.settle()
    for minute in range(10):
        now = NOW + minute * MINUTE
        world.now_us, world.writer = now, Writer("kubectl", NOW, now)
        world.children[Kind.DEPLOYMENT]["spec"]["replicas"] = 3
        world.step()
        assert world.replicas == 0
        written = world.writes
        world.settle()
        assert minute == 0 or world.writes == written, "the status stays"
    reconciling = world.condition("Reconciling")
    assert (reconciling["status"], reconciling["reason"]) == ("False", "ExternalWriter")
    assert reconciling["message"].startswith("kubectl sets spec.replicas of the Deployment, and they are put back")
    assert world.condition("Ready")["reason"] == "NeverServed" and world.condition("Ready")["status"] == "True"
    assert [(item.type, item.reason) for item in world.warnings.values()] == [("Warning", "ExternalWriter")]
    _, planned = world.look()
    assert planned.again_us == world.now_us + 10 * MINUTE
    world.writer = None
    world.settle()
    assert world.condition("Reconciling")["reason"] == "NeverServed"


@pytest.mark.parametrize(("every", "events"), [(15, 1), (300, 1), (900, 3)])
def test_a_fight_is_an_event_an_hour_at_most(every: int, events: int) -> None:
    """An autoscaler tries every 15 s; whoever tries now and then is told now and then."""
    seen: Writer | None = None
    begin, told = NOW - NOW % HOUR, set()
    for second in range(0, 9000, every):
        seen = sight(live(3, THEIRS), 0, seen, begin + second * SECOND)
        assert seen is not None
        told.add(seen.once)
    assert len(told) == events
