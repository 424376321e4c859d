"""The pod meter: facts first, then release; nothing that lived is missed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.billing.worlds import T0, at, pod
from tests.exporter.fakeapi import FakeApi
from zerotide.api.names import FINALIZER_LEDGER
from zerotide.api.scalars import SECOND
from zerotide.billing.facts import Kind
from zerotide.exporter.nodes import NodeWatch
from zerotide.exporter.pods import PodMeter
from zerotide.exporter.sqlite import SQLiteStore
from zerotide.exporter.threads import Threaded
from zerotide.kube import Client, ConnectionFailed
from zerotide.kube.clock import Clock


class Meter:
    """A pod meter and a node watch on a ledger."""

    def __init__(self, api: FakeApi, client: Client, path: Path) -> None:
        self.api, self.client, self.path = api, client, path

    @asynccontextmanager
    async def running(self) -> AsyncIterator[PodMeter]:
        """Run until the block ends; a second run is a restarted exporter."""
        store: Any = await Threaded.open(lambda: SQLiteStore(self.path), "ledger")
        nodes = NodeWatch(self.client, "c")
        meter = PodMeter(self.client, store, Clock(), lambda pod: ("", None), "c")
        tasks = [asyncio.create_task(run) for run in (nodes.reflector.run(), nodes.run(meter), meter.run())]
        try:
            await asyncio.wait_for(meter.reflector.synced.wait(), 10)
            yield meter
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await store.close()

    def kinds(self, uid: str = "uid-p1") -> set[str]:
        """Return the kinds of the facts on disk about a pod."""
        store = SQLiteStore(self.path)
        found = {fact.kind for fact in store.facts() if fact.pod_uid == uid}
        store.close()
        return found

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until something that is not announced becomes true."""
        async with asyncio.timeout(20):
            while not condition():
                await asyncio.sleep(0.01)


@pytest.fixture
def meter(api: FakeApi, client: Client, tmp_path: Path) -> Meter:
    """Prepare a meter."""
    return Meter(api, client, tmp_path / "ledger.sqlite")


def absent(api: FakeApi, name: str = "p1") -> Callable[[], bool]:
    """Return whether a pod is gone from the API."""
    return lambda: ("demo", name) not in api.objects["pods"]


async def test_a_whole_life_is_recorded_and_released(meter: Meter, api: FakeApi) -> None:
    async with meter.running():
        for stage in (
            pod(),
            pod(scheduled=1),
            pod(scheduled=1, started=2),
            pod(scheduled=1, started=2, ready=4),
            pod(scheduled=1, started=2, ready=4, deleted=50),
            pod(scheduled=1, started=2, deleted=50, finished=52),
        ):
            await api.put("pods", stage)
        await api.until(absent(api))
    assert {"scheduled", "started", "ready", "delete", "finished"} <= meter.kinds()
    assert "gone" not in meter.kinds(), "what was seen to finish needs no weaker witness"


async def test_only_our_finalizer_is_taken_off_and_only_if_nothing_changed(meter: Meter, api: FakeApi) -> None:
    corpse = pod(scheduled=1, started=2, deleted=50, finished=52)
    corpse["metadata"]["finalizers"] = ["foreign/one", FINALIZER_LEDGER, "foreign/two"]
    async with meter.running():
        await api.put("pods", corpse)
        await api.until(lambda: api.patches)
        await api.until(
            lambda: api.objects["pods"]["demo", "p1"]["metadata"]["finalizers"] == ["foreign/one", "foreign/two"]
        )
    assert api.patches[0][1] == [
        {"op": "test", "path": "/metadata/uid", "value": "uid-p1"},
        {"op": "test", "path": "/metadata/finalizers", "value": ["foreign/one", FINALIZER_LEDGER, "foreign/two"]},
        {"op": "remove", "path": "/metadata/finalizers/1"},
    ]


async def test_a_pod_with_a_live_container_keeps_the_finalizer(meter: Meter, api: FakeApi) -> None:
    async with meter.running() as running:
        await api.put("pods", pod(scheduled=1, started=2, deleted=50))
        await api.put("pods", pod("p2", scheduled=1, started=2, deleted=50, finished=52))
        await api.until(absent(api, "p2"))
        await meter.until(lambda: running.awaiting_release == 0)
    assert [name for name, _ in api.patches] == ["p2"]


async def test_facts_are_on_disk_before_the_pod_is_let_go(meter: Meter, api: FakeApi) -> None:
    api.refuse_patches = True
    async with meter.running() as running:
        await api.put("pods", pod(scheduled=1, started=2, deleted=50, finished=52))
        await meter.until(lambda: bool(api.patches))
        assert "finished" in meter.kinds()
        assert running.awaiting_release == 1
        api.refuse_patches = False
        await api.until(absent(api))
        await meter.until(lambda: running.awaiting_release == 0)


async def test_a_pod_that_lived_and_died_meanwhile_is_found(meter: Meter, api: FakeApi) -> None:
    async with meter.running():
        pass
    await api.put("pods", pod(scheduled=1, started=2, deleted=50, finished=52))
    async with meter.running():
        await api.until(absent(api))
    assert {"scheduled", "started", "finished"} <= meter.kinds()


async def test_a_pod_that_vanished_while_nobody_looked_is_gone(meter: Meter, api: FakeApi) -> None:
    async with meter.running() as running:
        await api.put("pods", pod(scheduled=1, started=2))
        await meter.until(lambda: ("demo", "p1") in running.reflector.store and running.lag_us == 0)
    await api.drop("pods", "demo", "p1")
    assert "gone" not in meter.kinds()
    async with meter.running():
        await meter.until(lambda: "gone" in meter.kinds())
    assert not api.patches, "there is nothing to let go"


async def test_a_pod_that_is_removed_without_its_finalizer_is_gone_at_once(meter: Meter, api: FakeApi) -> None:
    async with meter.running():
        await api.put("pods", pod(scheduled=1, started=2))
        await api.drop("pods", "demo", "p1")
        await meter.until(lambda: "gone" in meter.kinds())
    assert {"created", "scheduled", "started"} <= meter.kinds(), "what was seen before is on disk too"


async def test_a_pod_that_the_kubelet_refused_ends_when_it_was_seen(meter: Meter, api: FakeApi) -> None:
    async with meter.running():
        await api.put("pods", pod(scheduled=1, phase="Failed"))
        await meter.until(lambda: "gone" in meter.kinds())
        await api.until(lambda: not api.objects["pods"]["demo", "p1"]["metadata"]["finalizers"])
    assert not {"started", "finished"} & meter.kinds(), "no container ran that could tell of an end"


async def test_back_off_is_written_down_once(meter: Meter, api: FakeApi) -> None:
    stuck = pod(scheduled=1)
    stuck["status"]["containerStatuses"][0]["state"] = {"waiting": {"reason": "ImagePullBackOff"}}
    for _ in range(2):
        async with meter.running():
            await api.put("pods", stuck)
            await meter.until(lambda: "backoff" in meter.kinds())
            await api.put("pods", stuck)
            await api.put("pods", pod("p2"))
            await meter.until(lambda: "created" in meter.kinds("uid-p2"))
    store = SQLiteStore(meter.path)
    assert sum(fact.kind == Kind.BACKOFF for fact in store.facts()) == 1
    store.close()


def node(ready: str, since: float) -> dict[str, Any]:
    """Return a node whose readiness turned at that time."""
    condition = {"type": "Ready", "status": ready, "lastTransitionTime": at(since), "lastHeartbeatTime": at(10)}
    return {"metadata": {"name": "node-1", "uid": "n1"}, "status": {"conditions": [condition]}}


async def test_a_node_that_vanishes_and_returns(meter: Meter, api: FakeApi) -> None:
    lease = {"metadata": {"name": "node-1", "namespace": "kube-node-lease"}, "spec": {"renewTime": at(33)}}
    await api.put("leases", lease)
    await api.put("nodes", node("True", 0))
    async with meter.running():
        await api.put("pods", pod(scheduled=1, started=2))
        await meter.until(lambda: "started" in meter.kinds())
        await api.put("nodes", node("Unknown", 70))
        await meter.until(lambda: "lost" in meter.kinds())
        await api.put("nodes", node("True", 90))
        await meter.until(lambda: "alive" in meter.kinds())
    assert turns(meter) == {"lost": 33, "alive": 90}, "the lease is a later proof of life than the heartbeat"


def turns(meter: Meter) -> dict[str, int]:
    """Return when the node was lost and came back, in seconds."""
    store = SQLiteStore(meter.path)
    found = {fact.kind: (fact.t_us - T0) // SECOND for fact in store.facts() if fact.kind in ("lost", "alive")}
    store.close()
    return found


async def test_a_node_that_is_back_by_the_time_its_lease_is_read_was_lost_before(meter: Meter, api: FakeApi) -> None:
    """An exporter that was away may see a Lease that is renewed again beside a node that is still given up."""
    lease = {"metadata": {"name": "node-1", "namespace": "kube-node-lease"}, "spec": {"renewTime": at(95)}}
    await api.put("leases", lease)
    await api.put("nodes", node("Unknown", 70))
    await api.put("pods", pod(scheduled=1, started=2))
    async with meter.running():
        await meter.until(lambda: "lost" in meter.kinds())
        await api.put("nodes", node("True", 94))
        await meter.until(lambda: "alive" in meter.kinds())
    assert turns(meter) == {"lost": 70, "alive": 94}, "or the pod would be lost, and free, to its end"


async def test_a_lease_that_cannot_be_read_at_once_is_asked_for_again(
    meter: Meter, api: FakeApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zerotide.exporter.nodes.PAUSE_S", 0.01)
    lease = {"metadata": {"name": "node-1", "namespace": "kube-node-lease"}, "spec": {"renewTime": at(33)}}
    await api.put("leases", lease)
    await api.put("nodes", node("Unknown", 70))
    await api.put("pods", pod(scheduled=1, started=2))
    answered, failures = meter.client.get, [ConnectionFailed("refused"), ConnectionFailed("refused")]

    async def get(*where: Any) -> Any:
        if failures:
            raise failures.pop()
        return await answered(*where)

    monkeypatch.setattr(meter.client, "get", get)
    async with meter.running():
        await meter.until(lambda: "lost" in meter.kinds())
    assert turns(meter) == {"lost": 33} and not failures
