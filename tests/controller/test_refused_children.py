"""A child that the API server refuses again and again delays nothing that time alone decides."""

from __future__ import annotations

from typing import Any

import pytest

from tests.controller.test_process import operator
from tests.reconcile.helpers import raw
from tests.reconcile.world import World
from zerotide.api.scalars import HOUR, SECOND, format_time
from zerotide.controller.executor import Executor
from zerotide.kube import Forbidden
from zerotide.reconcile.child import Kind
from zerotide.reconcile.plan import Delete
from zerotide.reconcile.steer import Apply, Create, Scale


class Refused(Executor):
    """Writes that a quota refuses, but for the Deployment's and the status."""

    def __init__(self) -> None:
        self.writes: list[Any] = []

    def conflicts(self, key: str) -> frozenset[Any]:
        """Nothing is taken."""
        return frozenset()

    async def recheck_conflicts(self, key: str, uid: str) -> None:
        """There is nothing to look at again."""

    async def carry_out(self, key: str, write: Create | Apply | Scale | Delete) -> bool:
        """Refuse."""
        self.writes.append(write)
        raise Forbidden(403, "Forbidden", "exceeded quota")

    async def write_status(self, metadata: Any, status: dict[str, Any]) -> dict[str, Any]:
        """Answer as the API server does."""
        return raw(name="a", status=status, resourceVersion="2")


async def test_a_refused_child_puts_off_no_look_that_time_calls_for() -> None:
    """Not the end of an idle timeout, say: a back-off may be minutes longer."""
    made = operator()
    executor = made.reconciler._executor = Refused()
    now_us = made._clock.now_us()
    # It was there before, so its Deployment is steered first and its other children come last.
    spec = {"scaling": {"override": {"minReplicas": 0, "until": format_time(now_us + HOUR)}}}
    world = World(obj=raw(spec))
    world.settle()
    made.on_event("ADDED", world.obj)
    made.watches.children.wrote(Kind.DEPLOYMENT, "demo/a", {**world.children[Kind.DEPLOYMENT]})
    with pytest.raises(Forbidden):
        await made.reconciler.reconcile("demo/a")
    due = made.queue._schedule.next_due()
    assert executor.writes and due is not None and due - made.queue._clock() <= HOUR / SECOND
