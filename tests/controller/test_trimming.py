"""What is kept of children, which of their changes are news, and how little memory many endpoints take."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Mapping
from contextlib import suppress
from types import MappingProxyType
from typing import Any

import pytest

from tests.reconcile.helpers import NOW, raw
from zerotide.controller.cache import Children, Endpoints
from zerotide.controller.trimming import alike, trimmed_child
from zerotide.kube import Change, Conflict, Packed
from zerotide.reconcile.child import Kind
from zerotide.reconcile.deployment import refused

Object = dict[str, Any]


def deployment(version: int, *, status: Object | None = None, replicas: int = 0, **metadata: Any) -> Object:
    """Return a Deployment as the API server sends it."""
    names = {"namespace": "demo", "name": "a", "uid": "d", "resourceVersion": str(version), "generation": version}
    notes = {"deployment.kubernetes.io/revision": str(version), "zerotide.dev/rendered-digest": "r"}
    managers = [{"manager": "m", "operation": "Update", "fieldsV1": {"f:status": {}}}]
    obj = {**names, "annotations": notes, "managedFields": managers, **metadata}
    spec = {"replicas": replicas, "template": {"spec": {"containers": [{"name": "model", "image": "x"}]}}}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": obj, "spec": spec, "status": status or {}}


def test_what_is_read_stays() -> None:
    """The spec, whose it is, our annotations, why pods are refused; and trimming twice changes nothing."""
    failure = {"type": "ReplicaFailure", "status": "True", "message": "quota"}
    progress = {"type": "Progressing", "status": "True", "lastUpdateTime": "2026-09-21T14:12:30Z"}
    owners = [{"uid": "e", "controller": True}]
    whole = deployment(3, status={"replicas": 1, "conditions": [progress, failure]}, ownerReferences=owners)
    kept = trimmed_child(whole)
    assert refused(kept) == "quota" and kept["status"]["replicas"] == 1
    assert kept["spec"] == whole["spec"] and kept["metadata"]["ownerReferences"] == owners
    assert kept["metadata"]["annotations"] == {"zerotide.dev/rendered-digest": "r"}
    assert "managedFields" not in kept["metadata"] and "generation" not in kept["metadata"]
    assert trimmed_child(kept) == kept


@pytest.mark.parametrize(
    ("change", "news"),
    [
        ({}, False),
        ({"status": {"observedGeneration": 4, "conditions": [{"type": "Available", "status": "True"}]}}, False),
        ({"status": {"conditions": [{"type": "ReplicaFailure", "status": "True", "message": "no"}]}}, True),
        ({"status": {"replicas": 1}}, True),
        ({"replicas": 2}, True),
        ({"deletionTimestamp": "2026-09-21T14:12:30Z"}, True),
        ({"labels": {"a": "b"}}, True),
    ],
)
def test_a_controllers_notes_are_no_news(change: dict[str, Any], news: bool) -> None:
    """What differs in something that is read is."""
    before, after = trimmed_child(deployment(3)), trimmed_child(deployment(4, **change))
    assert alike(after, before) is not news
    assert Children({}).caught_up(Kind.DEPLOYMENT, Change("set", after, before)) is news


def test_the_echo_of_a_write_is_no_news() -> None:
    """Nor is what came before it; what somebody made of it afterwards is, and so is its end."""
    children = Children({})

    def heard(version: int, replicas: int, type_: Any = "set") -> bool:
        obj = trimmed_child(deployment(version, replicas=replicas))
        return children.caught_up(Kind.DEPLOYMENT, Change(type_, obj, trimmed_child(deployment(4))))

    children.wrote(Kind.DEPLOYMENT, "demo/a", deployment(7, replicas=1))
    assert not heard(5, 0)
    assert not heard(7, 1)
    children.wrote(Kind.DEPLOYMENT, "demo/a", deployment(8, replicas=2))
    assert heard(9, 1), "somebody changed what was written"
    assert heard(10, 1, "deleted")
    assert Children({}).caught_up(Kind.SERVICE, Change("set", trimmed_child(deployment(1)))), "one that nobody knew"


@pytest.mark.parametrize(
    ("told", "answer", "news", "kept"),
    [
        ([7], 7, False, False),
        ([7, 8], 7, True, False),
        ([6], 7, True, True),
        ([], 7, False, True),
        ([7], None, True, False),
        ([], None, False, False),
    ],
)
def test_the_echo_may_come_before_the_answer(told: list[int], answer: int | None, news: bool, kept: bool) -> None:
    """What a watch tells while a write is on its way is judged by the answer, which is not kept if it is no newer."""
    looks: list[str] = []
    children = Children({}, looks.append)
    with suppress(Conflict), children.writing(Kind.DEPLOYMENT, "demo/a"):
        for version in told:
            obj = trimmed_child(deployment(version, replicas=version))
            assert not children.caught_up(Kind.DEPLOYMENT, Change("set", obj))
        if answer is None:
            raise Conflict(409, "Conflict", "changed meanwhile")
        children.wrote(Kind.DEPLOYMENT, "demo/a", deployment(answer, replicas=answer))
    assert looks == ["demo/a"] * news
    echo = trimmed_child(deployment(7, replicas=7))
    assert children.caught_up(Kind.DEPLOYMENT, Change("set", echo)) is not kept, "known only while an answer is kept"


class Nothing:
    """A reflector that has nothing."""

    store: Mapping[tuple[str, str], Object] = MappingProxyType({})


def test_an_end_that_comes_before_the_answer() -> None:
    """It is news at once, and the answer says nothing of what is there."""
    watched: dict[Kind, Any] = {Kind.DEPLOYMENT: Nothing()}
    children = Children(watched)
    with children.writing(Kind.DEPLOYMENT, "demo/a"):
        assert children.caught_up(Kind.DEPLOYMENT, Change("deleted", trimmed_child(deployment(9))))
        children.wrote(Kind.DEPLOYMENT, "demo/a", deployment(8))
        assert children.of("demo/a")
    assert children.of("demo/a") == {}


def test_many_endpoints_take_little_memory() -> None:
    """Ten thousand fit into a fraction of the operator's memory, their Deployments included."""
    count = 500
    wish = {"type": "Ready", "status": "True", "reason": "ScaledToZero", "message": "no replica runs"}
    status = {"state": "Asleep", "conditions": [{**wish, "type": each} for each in "abcde"], "desiredReplicas": 0}
    texts = [json.dumps(raw(name=f"m-{at}", uid=f"u-{at}", status=status)) for at in range(count)]
    child = json.dumps(deployment(3))
    tracemalloc.start()
    endpoints, stored = Endpoints(), Packed[tuple[str, str]]()
    for at, text in enumerate(texts):
        endpoints.put(json.loads(text), NOW)
        stored["demo", f"m-{at}"] = trimmed_child(json.loads(child))
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(endpoints) == len(stored) == count
    assert size / count < 5000
