"""A budget that is used up refuses by name, wakes nothing, and binds no more once it is raised."""

from __future__ import annotations

import asyncio
import time

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
