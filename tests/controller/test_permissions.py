"""What the operator calls is what the chart grants it: drawn from the code here, compared with the role there."""

from __future__ import annotations

from typing import Any

import pytest

from tests.chart.rendering import find, render
from tests.chart.test_permissions import granted
from tests.reconcile.helpers import raw
from tests.reconcile.world import World
from zerotide.controller.kinds import RESOURCES
from zerotide.controller.options import parse
from zerotide.controller.process import Operator
from zerotide.kube import Client, Credentials, Resource
from zerotide.kube.resources import EVENTS, INFERENCE_ENDPOINTS, PODS
from zerotide.reconcile.child import Kind
from zerotide.reconcile.plan import Delete
from zerotide.reconcile.steer import Apply, Create

NOWHERE = Credentials("http://127.0.0.1:1", None)
RICH: dict[str, Any] = {"scaling": {"maxReplicas": 3}}
POOR: dict[str, Any] = {"scaling": {}, "runtime": {"serviceAccountName": "theirs"}}


def key(resource: Resource) -> str:
    """Return the name of a resource as roles have it."""
    return f"{resource.group}/{resource.plural}"


def deleted() -> set[Kind]:
    """Return the kinds that plans delete while their endpoint stays, over every change that takes something away."""
    kinds: set[Kind] = set()
    for before, after, activators in ((RICH, POOR, ("10.0.0.1",)), (RICH, RICH, ("fd00::1",)), (RICH, {}, ())):
        world = World(obj=raw(before))
        world.settle()
        world.spec(**{**{name: {} for name in (*RICH, *POOR)}, **after})
        world.activators = activators
        for _ in range(6):
            _, planned = world.step()
            kinds |= {write.kind for write in planned.writes if isinstance(write, Delete)}
    return kinds


def made() -> set[Kind]:
    """Return the kinds that an endpoint is made of."""
    world = World(obj=raw(RICH))
    steering, planned = world.look()
    return {write.child.kind for write in (steering.move, *planned.writes) if isinstance(write, Create | Apply)}


def needs() -> dict[str, set[str]]:
    """Return the verbs that the code calls, by resource."""
    table: dict[str, set[str]] = {}

    def need(resource: Resource, *verbs: str, subresource: str = "") -> None:
        table.setdefault(key(resource) + subresource, set()).update(verbs)

    operator = Operator(Client(NOWHERE), parse([], {"POD_NAME": "op-0"}))
    for reflector in operator.watches.all:
        need(reflector.resource, "list", "watch")
    need(INFERENCE_ENDPOINTS, "list", "watch")  # kopf's watch, and the sweep
    need(INFERENCE_ENDPOINTS, "patch", subresource="/status")
    need(EVENTS, "create", "patch")  # a repeat is counted
    need(PODS, "patch", subresource="/status")  # one condition, where a token is asked for
    for kind in made():
        need(RESOURCES[kind], "get", "create", "patch")  # the executor looks before it changes what it did not make
    for kind in deleted():
        need(RESOURCES[kind], "delete")
    return table


def test_the_role_is_what_the_code_calls() -> None:
    """Neither more nor less; a kind that is made is known, and one that goes is deleted by its owner reference."""
    assert made() == set(Kind) == set(RESOURCES)
    assert granted(find(render(), "ClusterRole", "zerotide-operator")["rules"]) == needs()


@pytest.mark.parametrize("kind", [Kind.DEPLOYMENT, Kind.SERVICE, Kind.NETWORK_POLICY])
def test_what_every_endpoint_has_is_never_deleted(kind: Kind) -> None:
    """Its end is the endpoint's, which the garbage collector sees to."""
    assert kind not in deleted()
