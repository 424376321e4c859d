"""Another endpoint serves while one wakes, and where a budget says so: seen and billed as what it is."""

from __future__ import annotations

import asyncio
import json

from e2e import traffic
from e2e.harness import Json, System, chat, trivial, wait_until

HOLD = {"whileCold": "Fallback", "fallback": {"endpointRef": {"name": "small"}}}


async def test_a_small_one_serves_until_the_large_one_is_awake(system: System) -> None:
    namespace = system.namespace()
    key = system.key(namespace, "k")
    system.endpoint(namespace, "small", trivial(scaling={"minReplicas": 1}))
    system.endpoint(namespace, "large", trivial(idle="5m", hold=HOLD))
    await asyncio.to_thread(system.wait_state, namespace, "small", "Awake")
    url, direct = (system.url(namespace, name, "/v1/chat/completions") for name in ("large", "small"))
    # Each activator must have its replica, or the request would wait for the large one there.
    warm = 0
    async with asyncio.timeout(60):
        while warm < 16:
            answer = await traffic.once(direct, key, chat(), timeout=60)
            warm = warm + 1 if answer.headers.get("x-zerotide-cold-start") == "false" else 0

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
    small = await traffic.once(direct, key, chat(), timeout=60)
    assert small.status == 200 and "x-zerotide-fallback" not in small.headers


def test_a_url_inside_the_cluster_is_refused_at_apply(system: System) -> None:
    """An address in place of a name says where it leads; what a name leads to is judged when it is asked."""
    namespace = system.namespace()

    def applied(url: str) -> str:
        spec = trivial(hold={"whileCold": "Fallback", "fallback": {"url": url}})
        metadata = {"namespace": namespace, "name": "m"}
        kind = {"apiVersion": "zerotide.dev/v1alpha1", "kind": "InferenceEndpoint"}
        done = system.try_kubectl("apply", "-f", "-", stdin=json.dumps({**kind, "metadata": metadata, "spec": spec}))
        return done.stderr if done.returncode else ""

    assert "spec.hold.fallback.url: the address 10.1.2.3 is not public" in applied("https://10.1.2.3/v2")
    assert "the address fd00::1 is not public" in applied("https://[fd00::1]:8443")
    assert applied("https://api.example") == "" == applied("https://1.1.1.1")
