"""What the ledger keeps of an endpoint."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from tests.billing.worlds import T0, at
from tests.exporter.fakeapi import FakeApi
from zerotide.api.scalars import MINUTE, SECOND
from zerotide.billing.ledger import Wake
from zerotide.exporter.endpoints import EndpointWatch, class_name, record_of, trim, wake_of
from zerotide.exporter.store import Store
from zerotide.exporter.threads import Threaded
from zerotide.kube import Client, Key
from zerotide.kube.clock import Clock


def endpoint(*, generation: int = 1, status: dict[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
    """Return an endpoint object whose spec was last written 100 s after its creation."""
    return {
        "metadata": {
            "name": "smollm2",
            "namespace": "demo",
            "uid": "iep-uid",
            "resourceVersion": "1",
            "generation": generation,
            "creationTimestamp": at(0),
            "managedFields": [
                {"manager": "kubectl", "time": at(50)},
                {"manager": "autoscaler", "subresource": "scale", "time": at(100)},
                {"manager": "zerotide-operator", "subresource": "status", "time": at(500)},
            ],
        },
        "spec": spec,
        "status": status or {},
    }


def test_the_owner_is_the_consumer_that_the_spec_names_or_the_endpoint() -> None:
    assert record_of(trim(endpoint()), T0).owner == "demo/smollm2"
    assert record_of(trim(endpoint(billing={"consumer": "team-a"})), T0).owner == "demo/team-a"


def test_the_rules_of_sharing_are_those_of_the_spec() -> None:
    plain, told = record_of(trim(endpoint()), T0), {"coldStart": "ProRata", "split": "Tokens"}
    assert (plain.cold_start, plain.split) == ("Owner", "Equal")
    ruled = record_of(trim(endpoint(billing=told)), T0)
    assert (ruled.cold_start, ruled.split, ruled.owner) == ("ProRata", "Tokens", "demo/smollm2")


@pytest.mark.parametrize(
    ("spec", "floor"),
    [
        ({}, 0),
        ({"scaling": {"minReplicas": 2}}, 2),
        ({"scaling": {"minReplicas": 2, "pinnedReplicas": 5}}, 5),
        ({"scaling": {"minReplicas": 2}, "suspend": True}, 0),
    ],
)
def test_the_floor_is_what_is_kept_whatever_the_demand(spec: dict[str, Any], floor: int) -> None:
    assert record_of(trim(endpoint(**spec)), T0).floor == floor


WINDOW = {"name": "office", "start": "0 8 * * 1-5", "duration": "10h", "minReplicas": 2}
HELD = {"minReplicas": 3, "until": at(500)}


@pytest.mark.parametrize(
    ("spec", "clock"),
    [
        ({"scaling": {"minReplicas": 2}}, {}),
        ({"scaling": {"schedules": [WINDOW], "maxReplicas": 4}}, {"schedules": [WINDOW]}),
        ({"scaling": {"minReplicas": 1, "override": HELD}}, {"minReplicas": 1, "override": HELD}),
        ({"scaling": {"schedules": [WINDOW], "pinnedReplicas": 5}}, {}),
        ({"scaling": {"schedules": [WINDOW], "override": HELD}, "suspend": True}, {}),
        ({"scaling": {"schedules": [{**WINDOW, "start": "at eight"}]}}, {}),
    ],
)
def test_what_keeps_replicas_by_the_clock_is_kept_as_it_is_written(spec: dict[str, Any], clock: dict[str, Any]) -> None:
    told = record_of(trim(endpoint(**spec)), T0).clock
    assert (json.loads(told) if told else {}) == clock


def test_a_floor_holds_since_the_spec_was_written_not_since_its_status_was() -> None:
    assert record_of(trim(endpoint()), T0 + 999).floor_from_us == T0
    assert record_of(trim(endpoint(generation=2)), T0 + 999).floor_from_us == T0 + 100 * SECOND
    bare = endpoint(generation=2)
    del bare["metadata"]["managedFields"]
    assert record_of(trim(bare), T0 + 999).floor_from_us == T0 + 999


def test_the_request_timeout_bounds_open_attempts() -> None:
    assert record_of(trim(endpoint(request={"timeout": "2m"})), T0).request_timeout_us == 2 * MINUTE
    assert record_of(trim(endpoint(request={"timeout": "soon"})), T0).request_timeout_us == 15 * MINUTE


def test_the_class_name_is_the_accelerators() -> None:
    assert class_name(endpoint(accelerator={"className": "nvidia-l4"})) == "nvidia-l4"
    assert class_name(endpoint()) == class_name(None) == ""


def test_a_wake_is_read_from_the_status() -> None:
    stages = [{"name": "pull", "duration": "1s"}, {"name": "load", "duration": "250ms"}]
    last = {"id": "w1", "time": at(3), "cause": "Request", "total": "1s250ms", "stages": stages}
    assert wake_of(endpoint(status={"lastWake": last})) == Wake(
        "iep-uid", "w1", "demo", "smollm2", T0 + 3 * SECOND, "Request", 1_250_000, (("pull", SECOND), ("load", 250_000))
    )
    assert wake_of(endpoint()) is None


@pytest.mark.parametrize(
    "change", [{"total": "soon"}, {"time": "never"}, {"id": None}, {"time": "1970-01-01T00:00:00Z"}]
)
def test_a_wake_that_cannot_be_read_is_left_out(change: dict[str, Any]) -> None:
    last = {"id": "w1", "time": at(3), "cause": "Request", "total": "1s", "stages": []}
    assert wake_of(endpoint(status={"lastWake": {**last, **change}})) is None


async def test_each_failed_start_is_news_for_the_costs(api: FakeApi, client: Client, ledger: Threaded[Store]) -> None:
    """Also where the window forgot as many as came; a status that is told again is none."""
    asked: asyncio.Queue[Key] = asyncio.Queue()
    watch = EndpointWatch(client, ledger, Clock(), asked.put_nowait)
    running = asyncio.create_task(watch.reflector.run())

    async def told(seconds: int, state: str) -> None:
        failed = {"count": 1, "since": at(seconds), "times": [at(seconds)]} if seconds else None
        await api.put("inferenceendpoints", endpoint(status={"failedStarts": failed, "state": state}))
        async with asyncio.timeout(10):
            while watch.reflector.store.get(("demo", "smollm2"), {}).get("status", {}).get("state") != state:
                await asyncio.sleep(0.01)

    try:
        for number, (seconds, news) in enumerate(((0, 0), (100, 1), (100, 0), (4_000, 1), (0, 1))):
            await told(seconds, f"S{number}")
            assert asked.qsize() == news, number
            while not asked.empty():
                assert asked.get_nowait() == ("demo", "smollm2")
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
