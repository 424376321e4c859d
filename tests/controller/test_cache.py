"""Caches keep the newest of what is known, and forget what is gone."""

from __future__ import annotations

from typing import Any

import pytest

from tests.controller.test_process import operator
from tests.reconcile.helpers import NOW, pod_object, raw
from zerotide.api.failures import InvalidObject
from zerotide.controller.activators import activators, addresses
from zerotide.controller.cache import Children, Endpoints, Pods, key_of
from zerotide.controller.pace import Pace
from zerotide.controller.starts import Starts
from zerotide.controller.trimming import trimmed_node, trimmed_pod
from zerotide.kube import Change
from zerotide.reconcile.child import Kind
from zerotide.reconcile.pods import Stage, read


def test_endpoints_keep_the_newest_and_parse_once() -> None:
    """An older event changes nothing; a namesake with another uid replaces what was known, unless it came before."""
    known = Endpoints()
    assert known.put(raw(resourceVersion="9"), NOW)
    first = known.parsed("demo/a")
    assert first is not None and known.parsed("demo/a") is first
    assert not known.put(raw(resourceVersion="8"), NOW)
    assert not known.put(raw(resourceVersion="9"), NOW)
    assert known.put(raw(resourceVersion="10"), NOW + 1) and known.parsed("demo/a") is not first
    assert known.arrived_us("demo/a") == NOW + 1
    assert known.put(raw(resourceVersion="11", uid="u2"), NOW)
    assert not known.drop("demo/a", "u1"), "the end of the first one comes late"
    assert not known.put(raw(resourceVersion="10"), NOW), "so does a list that still held it"
    assert list(known) == ["demo/a"] and len(known) == 1
    assert known.drop("demo/a", "u2") and known.get("demo/a") is None and known.parsed("demo/a") is None


def test_an_endpoint_that_does_not_parse_says_so() -> None:
    """For whoever asks for it."""
    known = Endpoints()
    known.put(raw({"model": {"uri": "ftp://x"}}), NOW)
    with pytest.raises(InvalidObject, match="uri"):
        known.parsed("demo/a")


class Watched:
    """A reflector's store alone."""

    def __init__(self) -> None:
        self.store: dict[tuple[str, str], dict[str, Any]] = {}


def child(version: int, **spec: Any) -> dict[str, Any]:
    """Return an object of some version."""
    return {"metadata": {"namespace": "demo", "name": "a", "uid": "c", "resourceVersion": str(version)}, "spec": spec}


def test_the_answer_to_a_write_counts_until_the_watch_has_caught_up() -> None:
    """So that no decision is taken twice from the same old object."""
    watched: Any = Watched()
    children = Children({Kind.DEPLOYMENT: watched})
    assert children.of("demo/a") == {}
    watched.store["demo", "a"] = child(5, replicas=0)
    children.wrote(Kind.DEPLOYMENT, "demo/a", child(7, replicas=1))
    assert children.answered(Kind.DEPLOYMENT, "demo/a", "6") is None is children.answered(Kind.SERVICE, "demo/a", "7")
    echo = children.answered(Kind.DEPLOYMENT, "demo/a", "7")
    assert echo is not None and echo["spec"] == {"replicas": 1}
    assert children.of("demo/a")[Kind.DEPLOYMENT]["spec"]["replicas"] == 1
    children.caught_up(Kind.DEPLOYMENT, Change("set", child(6)))
    assert children.of("demo/a")[Kind.DEPLOYMENT]["metadata"]["resourceVersion"] == "7"
    watched.store["demo", "a"] = child(8, replicas=2)
    children.caught_up(Kind.DEPLOYMENT, Change("set", watched.store["demo", "a"]))
    assert children.of("demo/a")[Kind.DEPLOYMENT]["spec"]["replicas"] == 2
    children.wrote(Kind.DEPLOYMENT, "demo/a", child(9))
    del watched.store["demo", "a"]
    children.caught_up(Kind.DEPLOYMENT, Change("deleted", child(10)))
    assert children.of("demo/a") == {}
    children.wrote(Kind.DEPLOYMENT, "demo/a", child(11))
    children.lost(Kind.DEPLOYMENT, "demo/a")
    assert children.of("demo/a") == {}


def test_an_answer_does_not_outlive_its_object() -> None:
    """A gap of the watch may hold its end, which a list then tells by an older copy, or by nothing at all."""
    watched: Any = Watched()
    looked_at: list[str] = []
    children = Children({Kind.DEPLOYMENT: watched}, looked_at.append)
    children.wrote(Kind.DEPLOYMENT, "demo/a", child(9))
    assert children.caught_up(Kind.DEPLOYMENT, Change("deleted", child(7)))
    assert children.of("demo/a") == {}
    children.wrote(Kind.DEPLOYMENT, "demo/a", child(12))
    predecessor = {"metadata": {**child(7)["metadata"], "uid": "before"}}
    assert children.caught_up(Kind.DEPLOYMENT, Change("deleted", predecessor))
    children.listed(Kind.DEPLOYMENT, 11)
    assert children.of("demo/a") and not looked_at, "it was made after that list"
    children.listed(Kind.DEPLOYMENT, 12)
    assert children.of("demo/a") == {} and looked_at == ["demo/a"]
    children.wrote(Kind.DEPLOYMENT, "demo/a", child(14))
    watched.store["demo", "a"] = child(13)
    children.listed(Kind.DEPLOYMENT, 15)
    assert children.of("demo/a")[Kind.DEPLOYMENT]["metadata"]["resourceVersion"] == "14"


def test_pods_are_kept_by_endpoint() -> None:
    """By their label; others are passed over."""
    pods = Pods()
    assert pods.take(Change("set", pod_object("a-1")), NOW) == "demo/a"
    assert pods.take(Change("set", pod_object("a-2")), NOW) == "demo/a"
    assert [pod.name for pod in pods.of("demo/a")] == ["a-1", "a-2"]
    assert pods.take(Change("set", pod_object("b", labels={})), NOW) is None
    assert pods.take(Change("deleted", pod_object("a-1")), NOW) == "demo/a"
    assert [pod.name for pod in pods.of("demo/a")] == ["a-2"]
    pods.take(Change("deleted", pod_object("a-2")), NOW)
    assert pods.of("demo/a") == ()


def test_pods_say_when_room_was_given_back() -> None:
    """By those that ended or are gone, as long as there are others, since whoever comes later is younger."""
    pods, ended = Pods(), pod_object("b")
    ended["status"]["phase"] = "Succeeded"
    for name in ("a", "b", "c"):
        pods.take(Change("set", pod_object(name)), NOW)
    assert pods.freed_us("demo/a") == 0
    pods.take(Change("deleted", pod_object("a")), NOW + 1)
    assert pods.freed_us("demo/a") == NOW + 1
    pods.take(Change("set", ended), NOW + 2)
    pods.take(Change("deleted", ended), NOW + 3)
    assert pods.freed_us("demo/a") == NOW + 2, "what is over holds nothing, however long it is kept"
    pods.take(Change("deleted", pod_object("c")), NOW + 4)
    assert pods.freed_us("demo/a") == 0


def test_starts_remember_the_first_sight_of_each_step() -> None:
    """And of volumes that failed to mount twice."""
    starts = Starts()
    scheduled, running = read(pod_object(state={"waiting": {}})), read(pod_object(state={"running": {}}))
    starts.observe(read(pod_object(scheduled=False)), NOW)
    starts.observe(scheduled, NOW + 1)
    starts.observe(running, NOW + 2)
    starts.observe(running, NOW + 3)
    seen = starts.first((running,), NOW)
    assert (seen.scheduled_us, seen.started_us) == (NOW + 1, NOW + 2)
    assert starts.first((running,), NOW + 9).scheduled_us is None, "that was before the wake"
    event = {"involvedObject": {"uid": running.uid}, "message": "no such volume", "count": 1}
    assert starts.mount_failed(event) is None and starts.mounts((running,)) == {}
    assert starts.mount_failed({**event, "count": 2}) == running.uid
    assert starts.mounts((running,)) == {running.uid: "no such volume"}
    starts.forget(running.uid)
    assert starts.mounts((running,)) == {} and starts.first((running,), NOW).scheduled_us is None


def test_what_is_trimmed_reads_the_same() -> None:
    """The caches hold a fraction of each object."""
    obj = pod_object(state={"running": {}}, ready=True, ownerReferences=[{"uid": "x"}])
    obj["spec"] = {"containers": [{"name": "model", "image": "i", "env": [1], "resources": {"limits": {"cpu": "1"}}}]}
    small = trimmed_pod(obj)
    assert read(small).stage is Stage.READY and read(small).spec_digest == "d"
    assert small["spec"]["containers"] == [{"name": "model", "resources": {"limits": {"cpu": "1"}}}]
    assert "ownerReferences" not in small["metadata"] and key_of(small) == "demo/a-1"
    node = {"metadata": {"name": "n", "uid": "u", "resourceVersion": "1", "labels": {}}, "status": {"images": [1]}}
    assert trimmed_node(node) == {
        "metadata": {"name": "n", "uid": "u", "resourceVersion": "1"},
        "status": {"allocatable": {}},
    }


def activator(name: str, *, ip: str = "10.0.0.1", ready: bool = True, phase: str = "Running", **meta: Any) -> Any:
    """Return an activator's pod."""
    conditions = [{"type": "Ready", "status": "True" if ready else "False"}]
    metadata = {"name": name, "namespace": "s", "uid": f"u-{name}", **meta}
    return {"metadata": metadata, "status": {"phase": phase, "podIP": ip, "conditions": conditions}}


def test_which_activators_count() -> None:
    """Ready ones get requests; those that leave must still report; those without an address know of nothing."""
    found = activators(
        [
            activator("c", ip="10.0.0.3"),
            activator("a"),
            activator("starting", ready=False),
            activator("pending", ip=""),
            activator("over", phase="Failed"),
            activator("leaving", ip="10.0.0.9", ready=False, deletionTimestamp="2026-09-21T14:12:30Z"),
        ]
    )
    assert [item.name for item in found] == ["a", "c", "leaving"]
    assert addresses(found) == ("10.0.0.1", "10.0.0.3")


def test_activators_whose_nodes_are_taken_for_lost() -> None:
    """They are kept as long as no other is ready; one whose own probe fails is not."""
    lost, failing, leaving = activator("lost", ready=False), activator("failing", ready=False), activator("leaving")
    for pod, ready in ((lost, True), (failing, False), (leaving, True)):
        pod["status"]["containerStatuses"] = [{"name": "activator", "ready": ready}]
    leaving["metadata"]["deletionTimestamp"] = "2026-09-21T14:12:30Z"
    found = activators([lost, failing, leaving])
    assert [item.name for item in found] == ["leaving", "lost"]
    assert addresses(found) == ("10.0.0.1",)
    assert addresses(activators([lost, leaving, activator("ready", ip="10.0.0.2")])) == ("10.0.0.2",)


def test_an_activator_that_is_ready_no_longer_may_still_serve() -> None:
    """It must report as long as it runs, and gets no new requests; one that never was ready knows of none."""
    pod = activator("a", ready=False)
    pod["status"]["containerStatuses"] = [
        {"name": "activator", "ready": False, "state": {"running": {"startedAt": "x"}}}
    ]
    before = activators([activator("a")])
    found = activators([pod], {each.uid for each in before})
    assert [(each.name, each.serves, each.stays) for each in found] == [("a", False, False)] and addresses(found) == ()
    assert activators([pod]) == ()
    pod["status"]["containerStatuses"][0]["state"] = {"waiting": {"reason": "CrashLoopBackOff"}}
    assert activators([pod], {each.uid for each in before}) == (), "what it had is over"


def test_an_activator_that_was_ready_before_the_operator_came_may_still_serve() -> None:
    """Its pod tells: its readiness changed after it was started."""
    pod, made = activator("a", ready=False), "2026-09-21T14:12:20Z"
    pod["status"]["startTime"] = made
    pod["status"]["containerStatuses"] = [{"name": "activator", "ready": False, "state": {"running": {}}}]
    (ready,) = pod["status"]["conditions"]
    ready["lastTransitionTime"] = made
    assert activators([pod]) == (), "it never was"
    ready["lastTransitionTime"] = "2026-09-21T15:00:00Z"
    assert [(each.name, each.serves, each.stays) for each in activators([trimmed_pod(pod)])] == [("a", False, False)]
    pod["status"]["containerStatuses"][0]["state"] = {"waiting": {"reason": "CrashLoopBackOff"}}
    assert activators([pod]) == (), "what it had is over"


async def test_which_activators_were_ready_is_remembered() -> None:
    """From one look at their pods to the next."""
    watches, pod = operator().watches, activator("a", ready=False)
    pod["status"]["containerStatuses"] = [{"name": "activator", "ready": False, "state": {"running": {}}}]
    store = watches._activators.store
    store["s", "a"] = pod
    assert watches.activators() == ()
    store["s", "a"] = activator("a")
    assert [each.serves for each in watches.activators()] == [True]
    store["s", "a"] = pod
    assert [each.serves for each in watches.activators()] == [False]
    assert [each.serves for each in watches.activators()] == [False]


def test_writes_are_spread_over_time() -> None:
    """After a burst, one per step."""
    now = [100.0]
    pace = Pace(200, clock=lambda: now[0])
    delays = [pace.delay() for _ in range(60)]
    assert delays[0] == 0.0 and max(delays) == pytest.approx(0.2, abs=0.02)
    assert delays == sorted(delays)
    now[0] += 10
    assert pace.delay() == 0.0
