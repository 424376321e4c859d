"""A budget that is used up refuses by name, wakes nothing, and binds no more once it is raised."""

from __future__ import annotations

import asyncio
import base64
import time
from contextlib import suppress

import aiohttp

from e2e import traffic
from e2e.harness import Json, System, chat, trivial, wait_until

GPU = {"className": "nvidia-h100-80gb", "count": 1}


def budget(namespace: str, amount: str) -> Json:
    """Return a budget of the whole namespace."""
    limit = {"type": "Cost", "cost": {"amount": amount, "currency": "USD"}}
    metadata = {"namespace": namespace, "name": "month"}
    return {"apiVersion": "zerotide.dev/v1alpha1", "kind": "Budget", "metadata": metadata, "spec": {"limit": limit}}


async def test_a_budget_denies_and_is_raised(system: System) -> None:
    namespace = system.namespace()
    key = system.key(namespace, "k")
    system.endpoint(namespace, "paid", trivial(idle="5s", accelerator=GPU))
    url = system.url(namespace, "paid", "/v1/chat/completions")

    def found() -> Json:
        return system.get("budgets", "month", "-n", namespace).get("status") or {}

    async def until(state: str) -> None:
        def look() -> Json | None:
            return status if (status := found()).get("state") == state else None

        await asyncio.to_thread(wait_until, f"the budget is {state}", look, 60, 0.2)

    system.apply(budget(namespace, "0.000001"))
    await until("Ok")
    assert (await traffic.once(url, key, chat(), timeout=60)).status == 200
    await until("Exhausted")
    known = time.monotonic()
    while (refused := await traffic.once(url, key, chat(), timeout=60)).status != 402:
        assert time.monotonic() - known < 10, refused
        await asyncio.sleep(0.05)
    assert refused.code == "budget_exhausted"
    assert "budget month of namespace" in refused.body
    system.wait_state(namespace, "paid", "Asleep")
    assert (await traffic.once(url, key, chat(), timeout=60)).status == 402
    assert system.status(namespace, "paid")["state"] == "Asleep"
    shown = system.kubectl("get", "zbud", "-n", namespace)
    assert "Exhausted" in shown and "Block" in shown and "0.000001 USD" in shown
    told = system.get("events", "-n", namespace, "--field-selector", "involvedObject.kind=Budget")["items"]
    assert {"BudgetThreshold", "BudgetExhausted"} <= {event["reason"] for event in told}
    system.apply(budget(namespace, "1000"))
    await until("Ok")
    assert (await traffic.once(url, key, chat(), timeout=60)).status == 200


PROXY = "/api/v1/namespaces/zerotide-system/services/zerotide-exporter:http/proxy/api/v1"
TOKENS = 3000
EVENTS = 4000  # of a stream, which therefore never comes to its end


async def stream(url: str, key: str) -> tuple[int, str]:
    """Ask for a long stream; return its status and what came of it, up to its end or to where it was cut."""
    body = {"model": "told", "messages": [{"role": "user", "content": "hello"}], "max_tokens": EVENTS, "stream": True}
    read = bytearray()
    limits = aiohttp.ClientTimeout(total=60)
    sent = {"Authorization": f"Bearer {key}"}
    async with (
        aiohttp.ClientSession(timeout=limits) as session,
        session.post(url, json=body, headers=sent) as answer,
    ):
        with suppress(aiohttp.ClientPayloadError):
            async for piece in answer.content.iter_any():
                read += piece
        return answer.status, read.decode()


async def test_streams_end_where_a_budget_of_tokens_does(system: System) -> None:
    """Over all activators, not a token beyond: streams that do not fit are refused, those that go on are ended."""
    namespace = system.namespace()
    key = system.key(namespace, "k")
    hard = {
        **budget(namespace, "0"),
        "spec": {"limit": {"type": "Tokens", "tokens": TOKENS}, "inFlight": "End"},
    }
    system.apply(hard)
    system.endpoint(namespace, "told", trivial(idle="5m", env={"EVENTS": str(EVENTS)}))
    url = system.url(namespace, "told", "/v1/chat/completions")
    first = await traffic.once(url, key, chat(model="told"), timeout=60)
    assert first.status == 200, first
    answers = await asyncio.gather(*(stream(url, key) for _ in range(4)))
    ended = [text for status, text in answers if status == 200 and '"code":"budget_exhausted"' in text]
    assert ended, [(status, text[-300:]) for status, text in answers]
    for text in ended:
        assert '"content"' in text and "[DONE]" not in text and "budget month of namespace" in text
    assert 402 in {status for status, _ in answers}

    # The ledger has all of them once it has as many requests as there were.
    served = 1 + sum(status == 200 for status, _ in answers)
    token = system.kubectl("create", "token", "zerotide-reader", "-n", "zerotide-system").strip()

    def settled() -> list[Json] | None:
        rows: list[Json] = system.report(f"{PROXY}/usage?namespace={namespace}", token)["rows"]
        return rows if sum(row["requests"] for row in rows) == served else None

    rows = await asyncio.to_thread(wait_until, "the ledger has all requests", settled, 60, 0.5)
    assert 0 < sum(row["inputTokens"] + row["outputTokens"] for row in rows) <= TOKENS, rows
    # What was reserved and not used is there again.
    small = await traffic.once(url, key, chat(model="told", max_tokens=8), timeout=60)
    assert small.status == 200, small


SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()
RBAC = "rbac.authorization.k8s.io"


async def test_a_webhook_s_secret_is_read_once_a_role_lets_it(system: System) -> None:
    """And the address inside the cluster, which its policy does not name, is not called."""
    namespace = system.namespace()
    metadata = {"namespace": namespace, "name": "ops"}
    system.apply({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": {"secret": SECRET}})
    none: Json = {
        "limit": {"type": "Tokens", "tokens": 0},
        "notify": [{"name": "ops", "url": "http://10.1.2.3/hook", "secretRef": {"name": "ops"}}],
    }
    system.apply({**budget(namespace, "0"), "spec": none})

    async def until(words: str) -> list[Json]:
        def look() -> list[Json] | None:
            found = (system.get("budgets", "month", "-n", namespace).get("status") or {}).get("deliveries") or []
            told = [each for each in found if words in each.get("message", "")]
            # Those of the window before go on to be sent.
            return told if len(told) == 4 else None

        return await asyncio.to_thread(wait_until, f"webhooks say {words}", look, 60, 0.5)

    await until("bind a Role that lets zerotide-exporter get it")
    rule = {"apiGroups": [""], "resources": ["secrets"], "resourceNames": ["ops"], "verbs": ["get"]}
    system.apply({"apiVersion": f"{RBAC}/v1", "kind": "Role", "metadata": metadata, "rules": [rule]})
    role = {"apiGroup": RBAC, "kind": "Role", "name": "ops"}
    account = {"kind": "ServiceAccount", "name": "zerotide-exporter", "namespace": "zerotide-system"}
    binding = {"apiVersion": f"{RBAC}/v1", "kind": "RoleBinding", "metadata": metadata}
    system.apply({**binding, "roleRef": role, "subjects": [account]})
    # Each webhook is sent again after five seconds; the next time would be minutes later.
    system.apply({**budget(namespace, "0"), "spec": {**none, "window": {"period": "Day"}}})
    found = await until("not in policy.egress.allow")
    assert sorted(each["percent"] for each in found) == [50, 75, 90, 100]
    assert SECRET not in str(system.get("budgets", "month", "-n", namespace))
