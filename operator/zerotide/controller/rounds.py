"""Ask replicas something again and again, a few at a time and each over a connection of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import aiohttp

AT_ONCE = 16

Asked = TypeVar("Asked")
Answer = TypeVar("Answer")


async def rounds(ask: Callable[[aiohttp.ClientSession], Awaitable[None]], *, every: float, patience: float) -> None:
    """Call `ask`, and then pause for `every` seconds, for ever; a replica has `patience` seconds to answer."""
    timeout = aiohttp.ClientTimeout(total=patience)
    connector = aiohttp.TCPConnector(limit=0, force_close=True)
    async with aiohttp.ClientSession(
        timeout=timeout, connector=connector, cookie_jar=aiohttp.DummyCookieJar(), trust_env=False
    ) as session:
        while True:
            await ask(session)
            await asyncio.sleep(every)


async def in_turn(
    asked: Sequence[Asked], ask: Callable[[Asked], Awaitable[Answer]], within: float | None = None
) -> list[tuple[Asked, Answer]]:
    """Ask in this order, a few at a time, and return who answered what; whose turn does not come `within` is left out.

    Patience with one begins with its turn: a few that hang must not use up everybody's.
    """
    slots = asyncio.Semaphore(AT_ONCE)

    async def one(each: Asked) -> Answer:
        async with slots:
            return await ask(each)

    tasks = [asyncio.ensure_future(one(each)) for each in asked]
    try:
        if tasks:
            await asyncio.wait(tasks, timeout=within)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return [(each, task.result()) for each, task in zip(asked, tasks, strict=True) if not task.cancelled()]
