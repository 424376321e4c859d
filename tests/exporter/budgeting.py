"""An exporter's budgets on a ledger of their own, a fake API server and a clock that stands."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from tests.billing.test_rating import gpu, index
from tests.billing.worlds import T0
from tests.exporter.fakeapi import FakeApi
from zerotide.api.egress import Egress
from zerotide.api.scalars import SECOND
from zerotide.exporter.budgets import BudgetTask
from zerotide.exporter.store import Store
from zerotide.exporter.threads import Threaded
from zerotide.exporter.webhooks.couriers import Couriers
from zerotide.exporter.webhooks.sender import Sender
from zerotide.kube import Client, Clock, Recorder

PRICES = index(gpu("0.001"))
KIND = {"apiVersion": "zerotide.dev/v1alpha1", "kind": "Budget"}


def budget(amount: str, name: str = "month", generation: int = 1, **spec: Any) -> dict[str, Any]:
    """Return a budget of US dollars, unless told otherwise."""
    limit = {"type": "Cost", "cost": {"amount": amount, "currency": "USD"}}
    metadata = {"namespace": "demo", "name": name, "uid": name, "generation": generation}
    return {**KIND, "metadata": metadata, "spec": {"limit": limit, **spec}}


class World:
    """A ledger, a clock that stands, and an exporter's budgets."""

    def __init__(self, api: FakeApi, client: Client, store: Threaded[Store]) -> None:
        self.api, self.store = api, store
        self.now_us = T0
        clock = Clock()
        clock.now_us = lambda: self.now_us  # type: ignore[method-assign]
        self.recorder = Recorder(client, "zerotide-exporter", "test")
        sender = Sender(client, Egress.of(["127.0.0.0/8"]), None, Clock())
        self.leading = True
        self.couriers = Couriers(client, sender, self.recorder, clock, lambda: self.leading)
        self.task = BudgetTask(client, store, lambda: PRICES, self.recorder, clock, self.couriers)

    def status(self, name: str = "month") -> dict[str, Any]:
        """Return what a budget's status says."""
        status: dict[str, Any] = self.api.objects["budgets"]["demo", name].get("status") or {}
        return status

    async def until(self, **fields: Any) -> None:
        """Wait until the status of the budget `month` says this."""
        await self.api.until(lambda: fields.items() <= self.status().items())

    async def at(self, seconds: float) -> None:
        """Have it so many seconds after T0, seen by the next look."""
        self.now_us = T0 + round(seconds * SECOND)
        self.task._look.set()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run as an exporter does, until the context ends or a part of it fails."""
        parts = (self.task.reflector.run(), self.task.run(), self.recorder.run(), self.couriers.run())
        tasks = [asyncio.create_task(part) for part in parts]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def add(world: World, *facts: Any) -> None:
    """Record facts."""
    await world.store.run(lambda store: store.add_facts(facts, T0))
