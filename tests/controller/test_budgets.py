"""What the operator makes of budgets: whom they bind, until when, and whom to look at again."""

from __future__ import annotations

from typing import Any

import pytest

from tests.reconcile.helpers import NOW, raw
from zerotide.api.endpoint import InferenceEndpoint
from zerotide.api.scalars import HOUR, SECOND, format_time
from zerotide.controller.budgets import Budgets
from zerotide.kube import Change

SPEC = {"limit": {"type": "Tokens", "tokens": 5}}
END = NOW // SECOND * SECOND + HOUR


def budget(name: str = "month", action: str | None = "StopPrewarm", **fields: Any) -> dict[str, Any]:
    """Return a budget for which an action holds."""
    status = {"action": action, "windowEnd": format_time(END), "message": "4 of 5"} if action else {}
    metadata = {"name": name, "namespace": "demo", "uid": name}
    spec = {**SPEC, **fields.pop("spec", {})}
    kind = {"apiVersion": "zerotide.dev/v1alpha1", "kind": "Budget"}
    return {**kind, "metadata": metadata, "spec": spec, "status": {**status, **fields}}


def endpoint(name: str = "a", consumer: str | None = None) -> InferenceEndpoint:
    """Return an endpoint of the budget's namespace."""
    obj = raw({"billing": {"consumer": consumer}} if consumer else {})
    return InferenceEndpoint.parse({**obj, "metadata": {**obj["metadata"], "name": name, "namespace": "demo"}})


class World:
    """Budgets, and the namespaces that were told to be looked at."""

    def __init__(self) -> None:
        self.changed: list[str] = []
        self.budgets = Budgets(self.changed.append)

    def put(self, obj: dict[str, Any], type_: str = "set") -> None:
        """Have a change seen."""
        self.budgets.take(Change("deleted" if type_ == "deleted" else "set", obj))


@pytest.mark.parametrize(
    ("action", "withholds"),
    [(None, False), ("Notify", False), ("StopPrewarm", True), ("DenyWake", True), ("Block", True)],
)
def test_each_action_does_what_the_milder_ones_do(action: str | None, withholds: bool) -> None:
    world = World()
    world.put(budget(action=action))
    found = world.budgets.of(endpoint(), NOW)
    assert (found is not None) is withholds
    assert world.changed == (["demo"] if withholds else [])
    if found is not None:
        assert found == ("budget month of the namespace: 4 of 5", END)


def test_it_ends_with_its_window_and_with_the_budget() -> None:
    world = World()
    world.put(budget())
    assert world.budgets.of(endpoint(), END - 1) and not world.budgets.of(endpoint(), END)
    world.put(budget(), "deleted")
    assert world.budgets.of(endpoint(), NOW) is None and world.changed == ["demo", "demo"]
    world.put(budget(windowEnd=None))
    found = world.budgets.of(endpoint(), END * 2)
    assert found is not None and found.until_us is None


def test_whom_it_binds() -> None:
    """The endpoint must be in its scope, and who pays for a replica that nobody calls."""
    world = World()
    world.put(budget(spec={"scope": {"endpoints": ["a"], "consumers": ["team-a"]}}))
    assert world.budgets.of(endpoint("a", "team-a"), NOW)
    assert not world.budgets.of(endpoint("b", "team-a"), NOW)
    assert not world.budgets.of(endpoint("a", "team-b"), NOW)
    assert not world.budgets.of(endpoint("a"), NOW), "its owner is its own name"


def test_of_several_each_holds_until_its_own_end() -> None:
    world = World()
    world.put(budget("week", windowEnd=format_time(END + HOUR)))
    world.put(budget("day"))
    first, then = world.budgets.of(endpoint(), NOW), world.budgets.of(endpoint(), END)
    assert first is not None and then is not None
    assert ("budget day" in first.reason, first.until_us) == (True, END)
    assert ("budget week" in then.reason, then.until_us) == (True, END + HOUR)


def test_nobody_looks_again_because_a_little_more_is_used_up() -> None:
    world = World()
    world.put(budget())
    world.put(budget(message="5 of 5"))
    assert world.changed == ["demo"]
    found = world.budgets.of(endpoint(), NOW)
    assert found is not None and found.reason.endswith("5 of 5")
    world.put({**budget(), "spec": {}})
    assert world.budgets.of(endpoint(), NOW), "what is not understood changes nothing"
