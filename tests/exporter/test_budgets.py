"""Budgets as the exporter keeps them: from the ledger into statuses and Events, at once where something holds."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from fractions import Fraction
from functools import partial
from typing import Any

import pytest

from tests.billing.worlds import T0, life
from tests.exporter.budgeting import PRICES, World, add, budget
from tests.exporter.records import intent, settlement
from zerotide.api.budget import BudgetWindow
from zerotide.api.scalars import HOUR, MINUTE, SECOND, format_time
from zerotide.api.usage import Intent, Settlement
from zerotide.billing.budgets import window_of
from zerotide.exporter.sealer import seal_due
from zerotide.exporter.store import Store
from zerotide.kube.resources import Resource


async def test_a_budget_is_used_up_while_a_replica_runs(world: World) -> None:
    await add(world, *life(scheduled=0, started=5, ready=20))
    await world.api.put("budgets", budget("0.10"))
    await world.until(state="Ok", used="0.00 USD", percent=0)
    await world.at(50)
    await world.until(state="Warning", action="Notify", percent=50)
    await world.at(100)
    await world.until(state="Exhausted", action="Block", used="0.10 USD", percent=100, windowEnd="2025-07-01T00:00:00Z")
    await world.api.until(lambda: len(world.api.told) == 4)
    told = {(event["reason"], event["type"]) for event in world.api.told.values()}
    assert told == {("BudgetThreshold", "Normal"), ("BudgetExhausted", "Warning")}
    assert world.task.ratios[0].ratio == 1.0
    # Raised, it holds no more.
    await world.api.put("budgets", {**budget("1", generation=2), "status": world.status()})
    await world.until(state="Ok", observedGeneration=2, percent=10)
    assert "action" not in world.status()


async def test_a_new_window_begins_with_nothing(world: World) -> None:
    await add(world, *life(scheduled=0, started=5, ready=20, finished=100))
    await world.at(200)
    await world.api.put("budgets", budget("0.05", window={"period": "Day"}))
    await world.until(state="Exhausted")
    await world.at(24 * 3600)
    await world.until(state="Ok", used="0.00 USD")
    assert "action" not in world.status()


async def test_what_is_sealed_counts_with_what_is_not(world: World) -> None:
    await add(world, *life(scheduled=0, started=5, ready=20))

    def seal(store: Store) -> int:
        return seal_due(store, PRICES, store.seals.claim(), T0 + 5 * HOUR, MINUTE)

    assert await world.store.run(seal) > 0
    await world.at(6 * 3600)
    await world.api.put("budgets", budget("100"))
    await world.until(used="21.60 USD")
    await world.at(7 * 3600)
    await world.until(used="25.20 USD")


def add_usage(store: Store, pair: Sequence[Intent | Settlement]) -> int:
    """Record a request."""
    return store.add_usage(pair, (), T0)


async def test_tokens_count_when_they_are_settled(world: World) -> None:
    await add(world, *life(scheduled=0, started=5, ready=20))
    limit = {"type": "Tokens", "tokens": 24}
    await world.api.put("budgets", budget("", limit=limit, scope={"consumers": ["a"]}))
    await world.at(40)
    await world.until(state="Ok", used="0 tokens")
    for number in (1, 2):
        pair = (intent(f"r{number}", forwarded_us=T0), settlement(f"r{number}", ended_us=T0 + number * SECOND))
        await world.store.run(partial(add_usage, pair=pair))
    await world.until(state="Exhausted", used="24 tokens")
    assert world.status()["message"].startswith("24 tokens of 24 tokens are used up (100 %)")


async def times_are(world: World, times: dict[int, Fraction] | None) -> None:
    """Wait until so much is known of what time has cost."""
    async with asyncio.timeout(30):
        while world.task.timed(("demo", "month")) != times:
            world.task._look.set()
            await asyncio.sleep(0.01)


async def test_what_time_has_cost_is_known_by_window_to_who_reserves(world: World) -> None:
    """Of this window and the last, as near the edge both must have room; of a changed spec not what the old one had."""
    await add(world, *life(scheduled=0, started=5, ready=20))
    pair = (intent("r1", forwarded_us=T0), settlement("r1", ended_us=T0 + SECOND))
    await world.store.run(partial(add_usage, pair=pair))
    daily, day = {"period": "Day"}, 24 * HOUR
    first = window_of(BudgetWindow(period="Day"), T0).start_us
    rate = Fraction(1, 1000)
    assert world.task.timed(("demo", "month")) is None
    await world.api.put("budgets", budget("1000", inFlight="End", window=daily))
    await world.at(50)
    await times_are(world, {first: 50 * rate})
    # Late on the first day, within the second and within the third.
    late, second = (first + day - T0) // SECOND - 1, (first + day - T0) // SECOND + 10
    await world.at(late)
    await times_are(world, {first: late * rate})
    await world.at(second)
    await times_are(world, {first: late * rate, first + day: 10 * rate})
    await world.at(second + 24 * 3600)
    await times_are(world, {first + day: 10 * rate, first + 2 * day: 10 * rate})
    scope = {"consumers": ["nobody"]}
    await world.api.put("budgets", budget("1000", generation=2, inFlight="End", window=daily, scope=scope))
    await times_are(world, {first + 2 * day: Fraction(0)})
    await world.api.drop("budgets", "demo", "month")
    await times_are(world, None)


async def test_what_does_not_change_is_not_written(world: World) -> None:
    await world.api.put("budgets", budget("1"))
    await world.until(state="Ok")
    version = world.api.version
    for seconds in (10, 20, 1000):
        await world.at(seconds)
        looked = world.task.looks
        async with asyncio.timeout(30):
            while world.task.looks <= looked + 1:
                world.task._look.set()
                await asyncio.sleep(0.01)
    assert world.api.version == version


async def test_activators_hear_that_it_is_known_where_they_must(world: World) -> None:
    await world.api.put("budgets", budget("1", onLedgerFailure="Deny"))
    await world.api.put("budgets", budget("1", "other"))
    await world.until(state="Ok", updateTime=format_time(T0))
    for seconds in (20, 40):
        await world.at(seconds)
        await world.until(updateTime=format_time(T0 + seconds * SECOND))
    assert world.status("other")["updateTime"] == format_time(T0)


async def test_a_status_that_cannot_be_written_is_written_later(world: World) -> None:
    world.api.refuse_patches = True
    await world.api.put("budgets", budget("1"))
    looked = world.task.looks
    async with asyncio.timeout(30):
        while world.task.looks <= looked + 1:
            world.task._look.set()
            await asyncio.sleep(0.01)
    assert world.status() == {}
    world.api.refuse_patches = False
    await world.until(state="Ok")
    await world.api.drop("budgets", "demo", "month")


async def test_a_budget_that_cannot_be_read_leaves_the_others(world: World) -> None:
    await world.api.put("budgets", {**budget("1", "broken"), "spec": {}})
    await world.api.put("budgets", budget("1"))
    await world.until(state="Ok")
    assert world.status("broken") == {}


async def test_a_budget_made_anew_is_not_told_what_its_predecessor_used(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Deleted and made again while its status was on its way, it neither refuses nor has reached anything."""
    await add(world, *life(scheduled=0, started=5, ready=20))
    real, made = world.task._client.apply, list[str]()

    async def apply(resource: Resource, body: dict[str, Any], manager: str, *, subresource: str = "") -> Any:
        if "action" in body["status"] and not made:
            made.append("another")
            await world.api.drop("budgets", "demo", "month")
            successor = budget("1000")
            successor["metadata"]["uid"] = "another"
            await world.api.put("budgets", successor)
            while (known := world.task.known(("demo", "month"))) is None or known.metadata.uid != "another":
                await asyncio.sleep(0.01)
        return await real(resource, body, manager, subresource=subresource)

    monkeypatch.setattr(world.task._client, "apply", apply)
    await world.at(100)
    await world.api.put("budgets", budget("0.10"))
    await world.api.until(lambda: made and world.status().get("state") == "Ok")
    told = [obj.get("status") or {} for _, _, obj in world.api.events["budgets"] if obj["metadata"]["uid"] == "another"]
    assert all("action" not in status and "reached" not in status for status in told)
    assert world.couriers._rounds == {}
