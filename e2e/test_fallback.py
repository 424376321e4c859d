"""Another endpoint serves while one wakes, and where a budget says so: seen and billed as what it is."""

from __future__ import annotations

import asyncio

from e2e import traffic
from e2e.harness import Json, System, chat, trivial, wait_until

HOLD = {"whileCold": "Fallback", "fallback": {"endpointRef": {"name": "small"}}}


async def test_a_small_one_serves_until_the_large_one_is_awake(system: System) -> None:
    namespace = system.namespace()
    key = system.key(namespace, "k")
    system.endpoint(namespace, "small", trivial(scaling={"minReplicas": 1}))
    system.endpoint(namespace, "large", trivial(idle="5m", hold=HOLD))
    await asyncio.to_thread(system.wait_state, namespace, "small", "Awake")
    url = system.url(namespace, "large", "/v1/chat/completions")

    async def ask() -> traffic.Answer:
        answer = await traffic.once(url, key, chat(model="large"), timeout=60)
        assert answer.status == 200, answer
        return answer

    answers = [await ask()]
    assert answers[0].headers["x-zerotide-fallback"] == "small"
    assert answers[0].headers["x-zerotide-fallback-cause"] == "cold"
    async with asyncio.timeout(60):
        while "x-zerotide-fallback" in answers[-1].headers:
            await asyncio.sleep(0.1)
            answers.append(await ask())
    assert all(answer.headers["x-zerotide-cold-start"] == "false" for answer in answers)
    assert system.status(namespace, "large")["lastDecision"]["reason"] in ("Request", "Demand")

    limit = {"type": "Tokens", "tokens": 0}
    spec: Json = {
        "limit": limit,
        "scope": {"endpoints": ["large"]},
        "thresholds": [{"percent": 100, "action": "Fallback"}],
    }
    metadata = {"namespace": namespace, "name": "month"}
    budget: Json = {"apiVersion": "zerotide.dev/v1alpha1", "kind": "Budget", "metadata": metadata, "spec": spec}
    system.apply(budget)

    def exhausted() -> bool:
        return (system.get("budgets", "month", "-n", namespace).get("status") or {}).get("action") == "Fallback"

    await asyncio.to_thread(wait_until, "the budget is used up", exhausted, 60, 0.2)
    async with asyncio.timeout(30):
        while (answer := await ask()).headers.get("x-zerotide-fallback-cause") != "budget":
            await asyncio.sleep(0.1)
    assert answer.headers["x-zerotide-fallback"] == "small"
    small = await traffic.once(system.url(namespace, "small", "/v1/chat/completions"), key, chat(), timeout=60)
    assert small.status == 200 and "x-zerotide-fallback" not in small.headers
