"""What tests of webhooks share: a receiver, a Secret, and budgets that tell of their thresholds soon."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.billing.worlds import life
from tests.exporter.budgeting import World, add, budget
from tests.exporter.receiver import SECRET, Receiver
from zerotide.billing import thresholds
from zerotide.exporter.webhooks import couriers as couriers_module
from zerotide.kube import Key

QUICK = (0.0, 0.02, 0.04, 0.06)
OPS: Key = ("demo", "ops")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have what was not taken sent again soon, four times in all."""
    monkeypatch.setattr(thresholds, "SCHEDULE_S", QUICK)
    monkeypatch.setattr(couriers_module, "WRITE_AGAIN_S", 0.05)


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    """Take webhooks."""
    async with Receiver() as running:
        yield running


async def secret(world: World, text: str = SECRET, key: str = "secret") -> None:
    """Put a Secret there that holds a text."""
    data = {key: base64.b64encode(text.encode()).decode()}
    await world.api.put("secrets", {"metadata": {"namespace": OPS[0], "name": OPS[1]}, "data": data})


def told(url: str, amount: str = "0.10", **spec: Any) -> dict[str, Any]:
    """Return a budget that tells a URL of each threshold."""
    notify = [{"name": "ops", "url": url, "secretRef": {"name": OPS[1]}}]
    return budget(amount, **{"thresholds": [{"percent": 50, "action": "Notify"}], "notify": notify, **spec})


def deliveries(world: World) -> list[dict[str, Any]]:
    """Return what the status says of webhooks."""
    found: list[dict[str, Any]] = world.status().get("deliveries") or []
    return found


async def delivered(world: World, *states: str) -> list[dict[str, Any]]:
    """Wait until these are the states of all deliveries; return them."""
    await world.api.until(lambda: tuple(each["state"] for each in deliveries(world)) == states)
    return deliveries(world)


async def running_replica(world: World) -> None:
    """Have a replica run since T0, which uses up 0.001 USD each second."""
    await add(world, *life(scheduled=0, started=5, ready=20))
