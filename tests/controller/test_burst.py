"""Many wakes at once: side by side, each decided at once, and none lost with the operator."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.controller.rig import Object, Rig, trivial
from zerotide.controller.options import parse
from zerotide.controller.queue import Queue
from zerotide.kube import Change, Reflector
from zerotide.kube.resources import DEPLOYMENTS, INFERENCE_ENDPOINTS

BURST = 20
# No node has such a label, so the pods cost the machine nothing; their start is under way all the same.
NOWHERE = {"nodeSelector": {"zerotide.dev/nowhere": "yes"}}
SLEEPERS = [f"b{number}" for number in range(BURST)]


def sleeper() -> Object:
    """Return a spec whose replica is asked for and gets no node."""
    return trivial(podTemplate={"spec": {**NOWHERE, "containers": [{"name": "model", "imagePullPolicy": "Never"}]}})


async def test_as_many_are_worked_on_at_a_time_as_wake_at_once() -> None:
    """With the operator's own number of workers, twenty writes are on their way together."""
    together = asyncio.Barrier(BURST)

    async def work(key: str) -> None:
        await together.wait()

    queue = Queue(work)
    tasks = [asyncio.create_task(queue.run()) for _ in range(parse([], {"POD_NAME": "op"}).workers)]
    for name in SLEEPERS:
        queue.add(name)
    async with asyncio.timeout(5):
        while together.n_waiting or len(queue):
            await asyncio.sleep(0)
    await queue.close(1.0)
    await asyncio.gather(*tasks)
    assert not together.broken and len(queue) == 0


async def asleep(rig: Rig) -> str:
    """Make twenty sleeping endpoints; return their namespace."""
    namespace = await rig.namespace()
    await asyncio.gather(*(rig.apply(namespace, name, sleeper()) for name in SLEEPERS))
    for name in SLEEPERS:
        await rig.state(namespace, name, "Asleep", timeout=60)
    return namespace


async def all_scaled(rig: Rig, namespace: str, timeout: float) -> set[str]:
    """Return the endpoints whose Deployments ask for a replica, once all do or time is up."""
    scaled: set[str] = set()
    every = asyncio.Event()

    def changed(change: Change) -> None:
        if change.type == "set" and change.object["spec"].get("replicas") == 1:
            scaled.add(change.object["metadata"]["name"])
            if len(scaled) == BURST:
                every.set()

    mirror = Reflector(rig.client, DEPLOYMENTS, namespace, on_change=changed)
    task = asyncio.create_task(mirror.run())
    try:
        async with asyncio.timeout(timeout):
            await every.wait()
    except TimeoutError:
        pass
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    return scaled


@pytest.mark.parametrize("kill_after", [None, 0.0, 0.05])
async def test_twenty_wake_in_one_burst(rig: Rig, kill_after: float | None) -> None:
    """Each is scaled by one decision; an operator that is killed meanwhile loses none of them."""
    namespace = await asleep(rig)
    uids = {name: await uid_of(rig, namespace, name) for name in SLEEPERS}
    for name in SLEEPERS:
        rig.activator.tell({"endpoint": f"{namespace}/{name}", "uid": uids[name], "held": 1})
    if kill_after is not None:
        await asyncio.sleep(kill_after)
        await rig.restart_operator()
    assert await all_scaled(rig, namespace, 60) == set(SLEEPERS)
    for name in SLEEPERS:
        status = await rig.state(namespace, name, "Waking", "WaitingForCapacity", timeout=60)
        assert [(each["from"], each["to"]) for each in status["decisions"]] == [(0, 1)]


async def uid_of(rig: Rig, namespace: str, name: str) -> Any:
    """Return an endpoint's uid."""
    return (await rig.client.get(INFERENCE_ENDPOINTS, name, namespace))["metadata"]["uid"]
