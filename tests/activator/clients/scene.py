"""An activator that is brought into a situation, and what it saw of each client."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from tests.activator.clients.asks import Ask, Outcome
from tests.activator.clients.drivers import Driver
from tests.activator.replica import Replica
from tests.activator.stack import Answer, Stack, until

CLIENTS = ("openai", "hub", "tgi", "js")
IMAGE = {"uri": "image:///m"}


@dataclass
class Scene:
    """The parts of a situation; every client has a key of its own, by which its requests are counted."""

    stack: Stack
    replica: Replica
    ask: Ask = field(default_factory=Ask)
    seen: Counter[str] = field(default_factory=Counter)
    others: list[asyncio.Task[Answer]] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Make the keys, and count from now on."""
        self.keys()
        server = self.stack.service.server
        handle, express = server.handle, server.express

        def handling(exchange: Any) -> Any:
            self._count(exchange)
            return handle(exchange)

        def sending(exchange: Any) -> bool:
            taken = express(exchange)
            if taken:
                self._count(exchange)
            return taken

        server.handle, server.express = handling, sending

    def keys(self, **spec: Any) -> None:
        """Make the keys anew."""
        for name in (*CLIENTS, "wire", "other"):
            self.stack.key(name, **spec)

    def _count(self, exchange: Any) -> None:
        text = exchange.request.get(b"authorization")
        self.seen[text.removeprefix("Bearer zt_").partition("_")[0]] += 1

    async def ask_by(self, name: str, driver: Driver) -> Outcome:
        """Have a client ask, in a thread."""
        url, key = self.stack.url, self.stack.keys[name]
        return await asyncio.get_running_loop().run_in_executor(None, driver, url, key, self.ask)

    async def another_is_held(self) -> None:
        """Have somebody else's request held."""
        (endpoint,) = self.stack.registry.endpoints.values()
        self.others.append(asyncio.create_task(self.stack.post(key="other")))
        await until(lambda: endpoint.gate.held)

    async def lift(self) -> None:
        """End the situation: the endpoint serves, and nobody else asks."""
        for task in self.others:
            task.cancel()
        self.replica.behave, self.replica.hold = None, None
        self.stack.endpoint(status={"desiredReplicas": 1, "state": "Awake"}, model=IMAGE)
        self.stack.pod(self.replica.port)
        await asyncio.gather(*self.others, return_exceptions=True)
