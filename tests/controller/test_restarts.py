"""On a real cluster: kills at any moment, a standby that takes over, and upgrades that leave models alone."""

from __future__ import annotations

import asyncio
import json
import random
import signal

import pytest

from tests.controller.rig import TRIVIAL, Object, Rig, trivial
from zerotide.api.names import MANAGER_OPERATOR
from zerotide.kube.resources import DEPLOYMENTS, INFERENCE_ENDPOINTS, LEASES, PODS, SERVICES


def decided(endpoint: Object | None) -> bool:
    """Tell whether a decision about the endpoint is in its status."""
    return bool(((endpoint or {}).get("status") or {}).get("decisions"))


async def test_a_kill_at_any_moment_converges(rig: Rig) -> None:
    """Endpoints that are made, woken and deleted while the operator is killed end as they should."""
    namespace, rng = await rig.namespace(), random.Random(7)
    for round_ in range(4):
        await rig.apply(namespace, f"a{round_}", trivial())
        await asyncio.sleep(rng.uniform(0, 0.4))
        await rig.restart_operator()
        await rig.state(namespace, f"a{round_}", "Asleep")
        await rig.wake(namespace, f"a{round_}")
        await asyncio.sleep(rng.uniform(0, 0.4))
        await rig.restart_operator()
    for round_ in range(4):
        name = f"a{round_}"
        found = await rig.until(INFERENCE_ENDPOINTS, namespace, name, decided, timeout=60)
        made = [item["to"] for item in reversed((found or {})["status"]["decisions"])]
        assert made[:1] == [1], "each wish was one wake"
    for round_ in range(4):
        await rig.state(namespace, f"a{round_}", "Asleep", timeout=60)
        await rig.client.delete(INFERENCE_ENDPOINTS, f"a{round_}", namespace)
    for round_ in range(4):
        await rig.until(SERVICES, namespace, f"a{round_}", lambda found: found is None)


async def test_a_wish_made_while_nobody_listens_is_kept(rig: Rig) -> None:
    """A wake request is durable: an operator that comes later acts upon it."""
    namespace = await rig.namespace()
    await rig.apply(namespace, "a", trivial())
    await rig.state(namespace, "a", "Asleep")
    await asyncio.to_thread(rig.operator.kill)
    wish = await rig.wake(namespace, "a")
    rig.processes.start_operator()
    await rig.replicas(namespace, "a", 1)
    status = await rig.state(namespace, "a", "Awake", timeout=60)
    assert status["handledWakeRequest"] == wish and len(status["decisions"]) == 1


@pytest.mark.parametrize("wished", [True, False])
async def test_a_wake_that_was_scaled_but_not_recorded_ends_in_sleep(rig: Rig, wished: bool) -> None:
    """A replica that was ready before anybody took note of the wake serves, wish or not, and falls asleep in time."""
    namespace = await rig.namespace()
    await rig.apply(namespace, "a", trivial())
    await rig.state(namespace, "a", "Asleep")
    await asyncio.to_thread(rig.operator.kill)
    wish = await rig.wake(namespace, "a") if wished else None
    await rig.client.patch(DEPLOYMENTS, "a", namespace, {"spec": {"replicas": 1}}, manager=MANAGER_OPERATOR)

    def ready(obj: Object | None) -> bool:
        return bool(obj) and (obj or {}).get("status", {}).get("readyReplicas") == 1

    await rig.until(DEPLOYMENTS, namespace, "a", ready, 30)
    rig.processes.start_operator()
    status = await rig.state(namespace, "a", "Awake")
    assert status.get("handledWakeRequest") == wish and [each["to"] for each in status["decisions"]] == [1]
    await rig.state(namespace, "a", "Asleep", timeout=20)


async def test_a_standby_takes_over(rig: Rig) -> None:
    """Of two operators one writes; when it leaves, the other goes on; SIGTERM is a clean end."""
    namespace = await rig.namespace()
    await rig.apply(namespace, "a", trivial())
    await rig.state(namespace, "a", "Asleep")
    first = rig.operator
    holder = (await rig.client.get(LEASES, "zerotide-operator", "zerotide-system"))["spec"]["holderIdentity"]
    second = rig.processes.start_operator()
    await asyncio.to_thread(rig.processes.wait_ready, second)
    assert await asyncio.to_thread(first.kill, signal.SIGTERM) == 0

    def another(obj: Object | None) -> bool:
        return obj is not None and obj["spec"]["holderIdentity"] not in ("", holder)

    await rig.until(LEASES, "zerotide-system", "zerotide-operator", another, 10)
    await rig.demand(namespace, "a", in_flight=1)
    await rig.wake(namespace, "a")
    await rig.state(namespace, "a", "Awake", timeout=60)
    third = rig.processes.start_operator()
    await asyncio.to_thread(rig.processes.wait_ready, third)
    await asyncio.to_thread(second.kill)
    await rig.demand(namespace, "a")
    await rig.state(namespace, "a", "Asleep", timeout=60)
    assert third.popen.poll() is None


async def test_an_upgrade_leaves_running_models_alone(rig: Rig) -> None:
    """What a newer operator would render differently is applied at the next wake, and no sooner."""
    old, new = json.dumps({"zerotide": TRIVIAL}), json.dumps({"zerotide": "zerotide/trivial:newer"})
    await rig.restart_operator(ZEROTIDE_RUNTIME_IMAGES=old)
    namespace = await rig.namespace()
    spec = trivial()
    spec["runtime"] = {"engine": "zerotide"}
    await rig.apply(namespace, "a", spec)
    await rig.apply(namespace, "sleeping", spec)
    await rig.state(namespace, "sleeping", "Asleep")
    await rig.state(namespace, "a", "Asleep")
    await rig.demand(namespace, "a", in_flight=1)
    await rig.wake(namespace, "a")
    await rig.state(namespace, "a", "Awake", timeout=60)
    before = (await rig.client.get(DEPLOYMENTS, "sleeping", namespace))["metadata"]["resourceVersion"]
    await rig.restart_operator(ZEROTIDE_RUNTIME_IMAGES=new)
    wrong = {"metadata": {"labels": {"zerotide.dev/endpoint": "a", "touched": "1"}}}
    await rig.client.patch(DEPLOYMENTS, "a", namespace, wrong)
    await rig.client.patch(DEPLOYMENTS, "a", namespace, {"spec": {"replicas": 2}})
    live = await rig.replicas(namespace, "a", 1)
    assert image(live) == TRIVIAL, "replicas are put right, the template is not"
    pods = (await rig.client.list(PODS, namespace, label_selector="zerotide.dev/endpoint=a")).items
    running = [pod for pod in pods if "deletionTimestamp" not in pod["metadata"]]
    assert {pod["spec"]["containers"][0]["image"] for pod in running} == {TRIVIAL}
    await rig.demand(namespace, "a")
    await rig.state(namespace, "a", "Asleep", timeout=60)
    asleep = await rig.client.get(DEPLOYMENTS, "sleeping", namespace)
    assert asleep["metadata"]["resourceVersion"] == before, "an endpoint that sleeps is not rewritten"
    await rig.wake(namespace, "a")
    assert image(await rig.replicas(namespace, "a", 1)) == "zerotide/trivial:newer"


def image(deployment: Object) -> str:
    """Return the image of the model's container."""
    found: str = deployment["spec"]["template"]["spec"]["containers"][0]["image"]
    return found
