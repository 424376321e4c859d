"""Several activators on loopback that act as one."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Self

from tests.activator.replica import Replica
from tests.activator.stack import Answer, FakeApi, Stack, until
from zerotide.activator.admission.naming import Name
from zerotide.activator.council.membership import Member
from zerotide.activator.endpoints.endpoint import Endpoint
from zerotide.kube import Change

USER = "system:serviceaccount:zerotide-system:zerotide-activator"


class Fleet:
    """Activators that know of each other, of one endpoint and of its replicas."""

    def __init__(self, folder: Path, count: int) -> None:
        self.api = FakeApi()
        self._token = folder / "token"
        self._token.write_text(f"token-of {USER}")
        self.stacks = [Stack(name=f"act-{number}", api=self.api, token=self._token) for number in range(count)]
        self._exits = AsyncExitStack()

    async def __aenter__(self) -> Self:
        """Serve, and wait until all can talk."""
        for stack in self.stacks:
            await self._exits.enter_async_context(stack)
        self.tell(self.stacks)
        others = len(self.stacks) - 1
        await until(lambda: all(len(stack.registry.council.linked) == others for stack in self.stacks))
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop."""
        await self._exits.aclose()

    def tell(self, stacks: Sequence[Stack]) -> None:
        """Let these activators know that they are all there are."""
        members = [Member(each.service.settings.pod_name, "127.0.0.1", each.registry.council_port) for each in stacks]
        for stack in stacks:
            stack.registry.set_members(members)

    async def endpoint(self, **spec: Any) -> str:
        """Create the endpoint `m` and its key; return once everyone knows their part."""
        first = self.stacks[0]
        made = first.endpoint(**spec)
        first.key(maxInFlight=None)
        for stack in self.stacks[1:]:
            stack.registry.endpoint_changed(Change("set", copy.deepcopy(self.api.objects[Name("demo", "m")])))
            stack.registry.keyring, stack.keys = first.registry.keyring, first.keys
        await self.calm()
        return made.profile.uid

    async def calm(self, stacks: Sequence[Stack] | None = None) -> None:
        """Return once every activator knows its part."""
        await until(lambda: all(_knows(stack) for stack in stacks or self.stacks))

    def of(self, stack: Stack) -> Endpoint:
        """Return the endpoint as an activator has it."""
        return stack.registry.endpoints[Name("demo", "m")]

    def owner(self) -> Stack:
        """Return who keeps the line."""
        first = self.stacks[0]
        name = first.registry.council.owner(self.of(first).profile.uid)
        return next(stack for stack in self.stacks if stack.service.settings.pod_name == name)

    def pod(self, replica: Replica, name: str = "m-1") -> None:
        """Let everyone see a pod."""
        for stack in self.stacks:
            stack.pod(replica.port, name=name)

    async def warm(self, seats: int = 1) -> None:
        """Return once everyone can reach so many replicas."""
        await until(lambda: all(len(self.of(stack).gate.seats) == seats for stack in self.stacks))

    def held(self, stack: Stack) -> int:
        """Return how many requests an activator holds itself."""
        gate = self.of(stack).gate
        return gate.held - gate.guests

    async def holds(self, number: int) -> None:
        """Return once so many are in the line."""
        gate = self.of(self.owner()).gate
        await until(lambda: gate.held == number)

    def post(self, stack: Stack, mark: str = "") -> asyncio.Task[Answer]:
        """Send a request to one of them."""
        return asyncio.create_task(stack.post(body={"model": "m", "messages": [], "user": mark}))


def _knows(stack: Stack) -> bool:
    parts = stack.registry.council._parts.values()
    return all(part.desk.reported if part.desk is not None else part.gate.lent is None for part in parts)
