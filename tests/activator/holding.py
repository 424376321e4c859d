"""Requests that are held."""

from __future__ import annotations

import asyncio

from tests.activator.stack import Answer, Stack, until


async def held(stack: Stack, number: int, **options: str) -> list[asyncio.Task[Answer]]:
    """Send requests and return once they are held."""
    endpoint = stack.registry.endpoints[next(iter(stack.registry.endpoints))]
    before = endpoint.gate.held
    tasks = [asyncio.create_task(stack.post(**options)) for _ in range(number)]
    await until(lambda: endpoint.gate.held == before + number)
    return tasks
