"""Another endpoint serves while one wakes, and where a budget says so: seen and billed as what it is."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from e2e import traffic
from e2e.abroad import serving
from e2e.cluster import Cluster
from e2e.fixtures import GivenCluster
from e2e.harness import Json, System, chat, trivial, wait_until

RBAC = "rbac.authorization.k8s.io"
PROXY = "/api/v1/namespaces/zerotide-system/services/zerotide-exporter:http/proxy/api/v1"
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


async def test_a_url_serves_until_the_endpoint_is_awake(
    system: System, cluster: Cluster | GivenCluster, tmp_path: Path
) -> None:
    """It gets the body with its model's name, its own token and nothing of the client's; nobody is billed for it."""
    if isinstance(cluster, GivenCluster):
        pytest.skip("somebody else's cluster has addresses and an authority of its own")
    namespace = system.namespace()
    key = system.key(namespace, "k")
    metadata = {"namespace": namespace, "name": "theirs"}
    system.apply({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": {"token": "s3cret"}})
    rule = {"apiGroups": [""], "resources": ["secrets"], "resourceNames": ["theirs"], "verbs": ["get"]}
    system.apply({"apiVersion": f"{RBAC}/v1", "kind": "Role", "metadata": metadata, "rules": [rule]})
    role = {"apiGroup": RBAC, "kind": "Role", "name": "theirs"}
    account = {"kind": "ServiceAccount", "name": "zerotide-activator", "namespace": "zerotide-system"}
    binding: Json = {"apiVersion": f"{RBAC}/v1", "kind": "RoleBinding", "metadata": metadata}
    system.apply({**binding, "roleRef": role, "subjects": [account]})
    with serving(system, cluster, namespace, tmp_path) as host:
        fallback = {"url": f"https://{host}/base", "secretRef": {"name": "theirs"}, "model": "large-1"}
        hold = {"whileCold": "Fallback", "fallback": fallback}
        system.endpoint(namespace, "m", trivial(idle="10m", env={"DELAY_MS": "3000"}, hold=hold))
        await asyncio.to_thread(system.wait_state, namespace, "m", "Asleep")
        url = system.url(namespace, "m", "/v1/chat/completions")
        answers = [await traffic.once(url, key, chat(model="m"), timeout=60)]
        async with asyncio.timeout(60):
            while "x-zerotide-fallback" in answers[-1].headers:
                await asyncio.sleep(0.2)
                answers.append(await traffic.once(url, key, chat(model="m"), timeout=60))
    assert {answer.status for answer in answers} == {200}, answers
    *abroad, own = answers
    assert abroad and "x-pod" in own.headers
    assert all(answer.headers["x-zerotide-fallback"] == host for answer in abroad)
    assert all(answer.headers["x-zerotide-fallback-cause"] == "cold" for answer in abroad)
    told = json.loads(abroad[0].body)
    assert (told["path"], told["model"]) == ("/base/v1/chat/completions", "large-1")
    assert told["headers"]["Authorization"] == "Bearer s3cret" and key not in abroad[0].body
    token = system.kubectl("create", "token", "zerotide-reader", "-n", "zerotide-system").strip()

    def billed() -> list[Json]:
        rows: list[Json] = system.report(f"{PROXY}/usage?namespace={namespace}", token)["rows"]
        return rows

    (row,) = await asyncio.to_thread(wait_until, "what it served itself is billed", billed, 60, 0.5)
    assert row["requests"] == 1, row


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
