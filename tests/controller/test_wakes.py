"""On a real cluster: wakes by request, annotation and demand; sleep when everybody is quiet; pins; suspension."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from typing import Any
from uuid import uuid4

from tests.controller.rig import Rig, trivial
from zerotide.api.scalars import parse_duration
from zerotide.kube import Resource
from zerotide.kube.resources import DEPLOYMENTS, INFERENCE_ENDPOINTS

AUTOSCALERS = Resource("autoscaling", "v2", "horizontalpodautoscalers", "HorizontalPodAutoscaler")


async def asleep(rig: Rig, name: str = "a", **spec: Any) -> str:
    """Make a sleeping endpoint; return its namespace."""
    namespace = await rig.namespace()
    await rig.apply(namespace, name, trivial(**spec))
    await rig.state(namespace, name, "Asleep")
    return namespace


async def test_a_request_wakes_and_idleness_puts_to_sleep(rig: Rig) -> None:
    """One wish is one wake; two seconds after the idle timeout at most the endpoint is asked down, and not before."""
    namespace = await asleep(rig)
    await rig.demand(namespace, "a", held=1)
    wish = await rig.wake(namespace, "a")
    await rig.replicas(namespace, "a", 1)
    status = await rig.state(namespace, "a", "Awake", timeout=60)
    assert status["handledWakeRequest"] == wish and status["lastDecision"]["reason"] in ("Request", "Demand")
    await rig.demand(namespace, "a", in_flight=1)
    await asyncio.sleep(6)  # longer than the idle timeout: a request in flight keeps it awake
    assert (await rig.client.get(DEPLOYMENTS, "a", namespace))["spec"]["replicas"] == 1
    ended = rig.clock.now_us()
    await rig.demand(namespace, "a")
    await rig.replicas(namespace, "a", 0)
    took = (rig.clock.now_us() - ended) / 1e6
    assert 5.0 <= took < 8.0, took
    status = await rig.state(namespace, "a", "Asleep", timeout=60)
    ready = next(item for item in status["conditions"] if item["type"] == "Ready")
    assert (ready["status"], ready["reason"]) == ("True", "ScaledToZero")
    assert status["lastDecision"]["reason"] == "Idle" and status["handledWakeRequest"] == wish


async def test_an_activator_that_says_nothing_keeps_everything_awake(rig: Rig) -> None:
    """Without a report nobody knows that nobody asks."""
    namespace = await asleep(rig)
    await rig.wake(namespace, "a")
    await rig.state(namespace, "a", "Awake", timeout=60)
    rig.activator.kill()
    await asyncio.sleep(10)  # twice the idle timeout
    assert (await rig.client.get(DEPLOYMENTS, "a", namespace))["spec"]["replicas"] == 1
    await rig.restart_activator()
    await rig.replicas(namespace, "a", 0)


async def test_the_start_of_an_activator_counts_as_activity(rig: Rig) -> None:
    """Nobody knows what came before it; the idle timeout starts again."""
    namespace = await asleep(rig, scaling={"idle": {"timeout": "8s"}})
    await rig.wake(namespace, "a")
    await rig.state(namespace, "a", "Awake", timeout=60)
    await rig.restart_activator(started_ago="0")
    started = rig.clock.now_us()
    await rig.replicas(namespace, "a", 0)
    assert (rig.clock.now_us() - started) / 1e6 > 7.0


async def test_held_requests_alone_wake(rig: Rig) -> None:
    """Demand on the stream is demand, even where the wish was lost."""
    namespace = await asleep(rig)
    await rig.demand(namespace, "a", held=1)
    await rig.replicas(namespace, "a", 1)
    status = await rig.state(namespace, "a", "Awake", timeout=60)
    assert "handledWakeRequest" not in status


async def test_engines_are_asked_how_many_wait_within_them(rig: Rig) -> None:
    """Where the spec says so: of one request in flight nobody would make three replicas."""
    said = await three_made(rig, {"name": "QUEUE", "value": "7"}, engineQueue={"target": 4})
    assert "waiting within engines at one of 4" in said


async def test_engines_are_asked_how_many_tokens_are_in_flight(rig: Rig) -> None:
    """One request with a long prompt is more than one replica takes."""
    said = await three_made(rig, {"name": "TOKENS", "value": "9000"}, tokensInFlight={"target": 5000})
    assert "tokens in flight at 5000" in said


async def three_made(rig: Rig, load: dict[str, str], **target: Any) -> str:
    """Have one request in flight at engines that tell a load, until there are three of them; return why."""
    namespace = await asleep(rig, runtime={"env": [load]}, scaling={"maxReplicas": 3, **target})
    await rig.demand(namespace, "a", in_flight=1)
    await rig.wake(namespace, "a")
    await rig.replicas(namespace, "a", 3, timeout=60)
    found = await rig.until(INFERENCE_ENDPOINTS, namespace, "a", lambda obj: told(obj) == 3)
    assert found is not None
    return str(found["status"]["lastDecision"]["message"])


async def test_pings_are_no_demand(rig: Rig) -> None:
    """A replica that nobody asks anything is pinged, and sleeps at its idle timeout all the same."""
    before = await pings(rig)
    scaling = {"idle": {"timeout": "16s"}, "ping": {"interval": "10s", "path": "/warm"}}
    namespace = await asleep(rig, scaling=scaling)
    await rig.wake(namespace, "a")
    await rig.state(namespace, "a", "Awake", timeout=60)
    served = rig.clock.now_us()
    deployment = await rig.replicas(namespace, "a", 0)
    took = (rig.clock.now_us() - served) / 1e6
    assert 15.0 < took < 18.5, deployment
    assert await pings(rig) == before + 1


async def pings(rig: Rig) -> int:
    """Return how many pings replicas have answered."""
    script = "import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1]).read().decode())"
    url = f"http://127.0.0.1:{rig.operator.admin_port}/metrics"
    asked = rig.cluster.run_inside([sys.executable, "-c", script, url], stdout=subprocess.PIPE)
    page, _ = await asyncio.to_thread(asked.communicate)
    found = [line for line in page.decode().splitlines() if line.startswith('zerotide_pings_total{outcome="answered"}')]
    return int(float(found[0].split()[1])) if found else 0


def told(obj: dict[str, Any] | None) -> int:
    """Return the replicas that the last decision led to."""
    last = ((obj or {}).get("status") or {}).get("lastDecision") or {}
    return int(last.get("to", 0))


async def test_annotations_wake_and_put_to_sleep_once(rig: Rig) -> None:
    """Each new value is one wish; the same value is not acted upon again."""
    namespace = await asleep(rig)

    async def annotate(what: str, value: str) -> None:
        body = {"metadata": {"annotations": {f"zerotide.dev/{what}-requested-at": value}}}
        await rig.client.patch(INFERENCE_ENDPOINTS, "a", namespace, body)

    await annotate("wake", "1")
    await rig.state(namespace, "a", "Awake", timeout=60)
    await annotate("sleep", "1")
    await rig.state(namespace, "a", "Asleep", timeout=60)
    await annotate("wake", "2")
    status = await rig.state(namespace, "a", "Awake", timeout=60)
    assert status["handledAnnotations"] == {"wakeRequestedAt": "2", "sleepRequestedAt": "1"}
    assert [item["reason"] for item in status["decisions"]] == ["Annotation", "SleepRequested", "Annotation"]


async def test_scale_pins_and_hands_back(rig: Rig) -> None:
    """`kubectl scale` pins; zero hands back; an autoscaler can read what it needs."""
    namespace = await asleep(rig, scaling={"maxReplicas": 2, "idle": {"timeout": "5s"}})
    await rig.client.patch(INFERENCE_ENDPOINTS, "a", namespace, {"spec": {"replicas": 2}}, subresource="scale")
    await rig.replicas(namespace, "a", 2)
    pinned = await rig.until(
        INFERENCE_ENDPOINTS, namespace, "a", lambda obj: (obj or {})["status"].get("readyReplicas") == 2, 60
    )
    assert pinned is not None and pinned["status"]["desiredReplicas"] == 2
    reference = {"apiVersion": "zerotide.dev/v1alpha1", "kind": "InferenceEndpoint", "name": "a"}
    target = {"type": "Utilization", "averageUtilization": 50}
    metric = {"type": "Resource", "resource": {"name": "cpu", "target": target}}
    spec = {"scaleTargetRef": reference, "minReplicas": 1, "maxReplicas": 2, "metrics": [metric]}
    metadata = {"name": "a", "namespace": namespace}
    body = {"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": metadata, "spec": spec}
    await rig.client.create(AUTOSCALERS, body)

    def attached(obj: dict[str, Any] | None) -> bool:
        conditions = ((obj or {}).get("status") or {}).get("conditions") or []
        return any(item["type"] == "AbleToScale" and item["status"] == "True" for item in conditions)

    assert await rig.until(AUTOSCALERS, namespace, "a", attached, 60) is not None
    await rig.client.delete(AUTOSCALERS, "a", namespace)
    await rig.client.patch(INFERENCE_ENDPOINTS, "a", namespace, {"spec": {"replicas": 0}}, subresource="scale")
    await rig.replicas(namespace, "a", 0, timeout=60)


async def test_suspension_never_wakes_and_min_replicas_never_sleep(rig: Rig) -> None:
    """A suspended endpoint takes no wish; one with minReplicas starts by itself and stays."""
    namespace = await asleep(rig, suspend=False)
    await rig.apply(namespace, "a", trivial(suspend=True))
    await rig.state(namespace, "a", "Suspended")
    wish = await rig.wake(namespace, "a")
    await rig.demand(namespace, "a", held=1)
    handled = await rig.until(
        INFERENCE_ENDPOINTS, namespace, "a", lambda obj: (obj or {})["status"].get("handledWakeRequest") == wish
    )
    assert handled is not None and handled["status"]["desiredReplicas"] == 0
    await rig.demand(namespace, "a")
    await rig.apply(namespace, "b", trivial(scaling={"minReplicas": 1}))
    status = await rig.state(namespace, "b", "Awake", timeout=60)
    assert status["lastDecision"]["reason"] == "MinReplicas"


async def test_load_adds_replicas(rig: Rig) -> None:
    """Requests in flight over the target bring more replicas, up to the maximum."""
    namespace = await asleep(rig, scaling={"maxReplicas": 2, "concurrency": {"target": 2, "limit": 4}})
    await rig.demand(namespace, "a", held=1)
    await rig.state(namespace, "a", "Awake", timeout=60)
    await rig.demand(namespace, "a", in_flight=9)
    deployment = await rig.replicas(namespace, "a", 2)
    assert deployment["metadata"]["name"] == "a", "nine in flight over two each would be five: the maximum holds"


async def test_a_finished_wake_is_recorded(rig: Rig) -> None:
    """Its stages sum to its total; the percentiles count it once, however many activators tell of it."""
    namespace = await asleep(rig)
    began = rig.clock.now_us()
    wish = await rig.wake(namespace, "a")
    await rig.state(namespace, "a", "Awake", timeout=60)
    live = await rig.client.get(INFERENCE_ENDPOINTS, "a", namespace)
    ended = rig.clock.now_us()
    stamps = {"demandUs": began, "addressUs": ended - 9000, "connectUs": ended - 8000, "readyUs": ended - 5000}
    told = {"endpoint": f"{namespace}/a", "uid": live["metadata"]["uid"], "id": wish, "runtime": {"init": 1.0}}
    for _ in range(2):
        rig.activator.tell({"wake": {**told, "stamps": {**stamps, "firstByteUs": ended}}})
    found = await rig.until(INFERENCE_ENDPOINTS, namespace, "a", lambda obj: "lastWake" in (obj or {})["status"])
    assert found is not None
    wake, starts = found["status"]["lastWake"], found["status"]["coldStarts"]
    assert wake["id"] == wish and wake["cause"] == "Request"
    assert sum(parse_duration(item["duration"]) for item in wake["stages"]) == parse_duration(wake["total"])
    assert starts["count"] == 1 and starts["p50"] == starts["p90"] == wake["total"]


async def test_the_same_wish_wakes_once(rig: Rig) -> None:
    """An endpoint that fell asleep again is not woken by a wish that was acted upon."""
    namespace = await asleep(rig)
    wish = await rig.wake(namespace, "a")
    await rig.state(namespace, "a", "Awake", timeout=60)
    await rig.state(namespace, "a", "Asleep", timeout=60)
    body = {"metadata": {"labels": {"touched": uuid4().hex[:8]}}}
    await rig.client.patch(INFERENCE_ENDPOINTS, "a", namespace, body)
    await asyncio.sleep(1)
    status = (await rig.client.get(INFERENCE_ENDPOINTS, "a", namespace))["status"]
    assert (status["state"], status["wakeRequest"]["id"]) == ("Asleep", wish)
