"""Replicas die, leave and are chosen: what clients see of it."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI

from e2e import traffic
from e2e.harness import Json, System, WaitTimedOut, chat, trivial, wait_until
from zerotide.billing.reports import CostReport, EndpointCost

QUESTION: list[Any] = [{"role": "user", "content": "Hi"}]


async def awake(system: System, replicas: int, env: dict[str, str], **spec: Any) -> tuple[str, str, list[Json]]:
    """Have an endpoint with so many ready replicas; return its namespace, a key and the pods."""
    namespace = system.namespace()
    key = system.key(namespace, "k")
    scaling = {"maxReplicas": replicas, "pinnedReplicas": replicas}
    system.endpoint(namespace, "m", trivial(env=env, scaling=scaling, **spec))

    def ready() -> list[Json]:
        status = system.status(namespace, "m")
        return system.pods(namespace, "m") if status.get("readyReplicas") == replicas else []

    try:
        return namespace, key, await asyncio.to_thread(wait_until, f"{replicas} replicas", ready)
    except WaitTimedOut as error:
        told = [system.status(namespace, "m"), *(pod["status"] for pod in system.pods(namespace, "m"))]
        raise WaitTimedOut(f"{error}; status, pods: {json.dumps(told)[:4000]}") from None


async def test_a_replica_killed_before_its_first_byte(system: System) -> None:
    """Its requests go to the other one; the clients see 200 and nothing else."""
    namespace, key, pods = await awake(system, 2, {"RESPONSE_MS": "3500"})
    url = system.url(namespace, "m", "/v1/chat/completions")
    assert traffic.tally(await traffic.burst(url, key, chat(), 20)) == {200: 20}, "by then both take requests"
    sending = asyncio.create_task(traffic.burst(url, key, chat(), 20))

    def in_flight() -> bool:
        return system.figure("zerotide_in_flight_requests", namespace) == 20

    await asyncio.to_thread(wait_until, "all are at the replicas", in_flight, 10)
    await asyncio.to_thread(system.kill_pod, pods[0], "trivial")
    answers = await sending
    assert traffic.tally(answers) == {200: 20}, [answer for answer in answers if answer.status != 200][:3]
    assert await asyncio.to_thread(system.figure, "zerotide_upstream_retries_total", namespace) >= 5


async def test_a_truncated_stream_is_an_error_for_the_openai_client(system: System) -> None:
    """The replica dies within its answer: an unmodified client raises, and has what came before."""
    namespace, key, pods = await awake(system, 1, {"RESPONSE_MS": "300", "EVENTS": "50"})
    words = []
    async with AsyncOpenAI(base_url=system.url(namespace, "m", "/v1"), api_key=key, max_retries=0) as client:
        stream = await client.chat.completions.create(model="m", messages=QUESTION, stream=True)
        with pytest.raises(openai.APIError, match="lost while it answered"):
            async for chunk in stream:
                words.append(chunk.choices[0].delta.content)
                if len(words) == 3:
                    await asyncio.to_thread(system.kill_pod, pods[0], "trivial")
    assert 3 <= len(words) < 50


async def test_a_terminating_pod_gets_nothing_new(system: System) -> None:
    """A pod that takes its time to end answers what it has, and nobody else."""
    namespace, key, _ = await awake(system, 2, {"SHUTDOWN_MS": "12000"})
    url = system.url(namespace, "m", "/v1/chat/completions")
    system.kubectl("scale", "iep/m", "-n", namespace, "--replicas=1")

    def leaving() -> list[Json]:
        return [pod for pod in system.pods(namespace, "m") if pod["metadata"].get("deletionTimestamp")]

    (gone,) = await asyncio.to_thread(wait_until, "a pod terminates", leaving, 30)
    answers = await traffic.burst(url, key, chat(), 40)
    assert traffic.tally(answers) == {200: 40}
    assert gone["metadata"]["name"] not in {answer.headers["x-pod"] for answer in answers}
    assert [pod["metadata"]["name"] for pod in leaving()] == [gone["metadata"]["name"]], "it was still there"


async def pod_of(url: str, key: str, body: Any, **headers: str) -> str:
    """Send a request and return who answered, once everybody knows that it is over."""
    answer = await traffic.once(url, key, body, headers={name.replace("_", "-"): headers[name] for name in headers})
    await asyncio.sleep(0.05)  # what is in flight is load, by which the next one would choose
    return answer.headers["x-pod"]


async def test_conversations_keep_their_replica_over_all_activators(system: System) -> None:
    """Whichever activator a request comes to, its session or its beginning leads to the same pod."""
    routing = {"policy": "PrefixAffinity", "prefixBytes": 64, "stickyHeader": "X-Session-Id"}
    namespace, key, pods = await awake(system, 3, {}, routing=routing)
    url = system.url(namespace, "m", "/v1/chat/completions")
    used = set()
    for number in range(8):
        text = f"{number} " + "x" * 100
        body = {"messages": [{"role": "user", "content": text}]}
        served = {await pod_of(url, key, body) for _ in range(4)}
        assert len(served) == 1
        used |= served
    assert len(used) >= 2
    bodies = [{"messages": [{"role": "user", "content": str(number) * 100}]} for number in range(6)]
    sticky = {await pod_of(url, key, body, x_session_id="s1") for body in bodies}
    assert len(sticky) == 1
    assert sticky <= {pod["metadata"]["name"] for pod in pods}


async def test_a_stream_that_its_client_leaves_is_reported_as_an_estimate(system: System) -> None:
    """What passed until then is in the bill, told apart from what engines count."""
    namespace, key, _ = await awake(system, 1, {"RESPONSE_MS": "200", "EVENTS": "50"})
    async with AsyncOpenAI(base_url=system.url(namespace, "m", "/v1"), api_key=key, max_retries=0) as client:
        stream = await client.chat.completions.create(model="m", messages=QUESTION, stream=True)
        read = 0
        async for _ in stream:
            read += 1
            if read == 4:
                break
        await stream.close()
    token = system.kubectl("create", "token", "zerotide-reader", "-n", "zerotide-system").strip()
    path = "/api/v1/namespaces/zerotide-system/services/zerotide-exporter:http/proxy/api/v1/cost"

    def told() -> EndpointCost | None:
        report = CostReport.model_validate(system.report(f"{path}?namespace={namespace}", token))
        return next((each for each in report.endpoints if each.tokens.estimated_output), None)

    cost = await asyncio.to_thread(wait_until, "the report tells it", told, 20)
    assert 4 <= cost.tokens.estimated_output == cost.tokens.output < 50
    assert any("estimated" in note for note in cost.notes)
