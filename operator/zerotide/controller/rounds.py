"""Ask replicas something again and again, a few at a time and each over a connection of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TypeVar

import aiohttp

AT_ONCE = 16
SOON = 0.1
"""Seconds after which one that has not answered makes room for the next, and is waited for beside it."""
OPEN = 128
"""How many are waited for at most."""

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


@asynccontextmanager
async def _slot(slots: asyncio.Semaphore) -> AsyncIterator[None]:
    """Hold one of the slots, but no longer than is `SOON`."""
    await slots.acquire()
    held = True

    def release() -> None:
        nonlocal held
        if held:
            held = False
            slots.release()

    late = asyncio.get_running_loop().call_later(SOON, release)
    try:
        yield
    finally:
        late.cancel()
        release()


async def in_turn(
    asked: Sequence[Asked], ask: Callable[[Asked], Awaitable[Answer]], within: float | None = None
) -> list[tuple[Asked, Answer]]:
    """Ask in this order, a few at a time, and return who answered what; whose turn does not come `within` is left out.

    Patience with one begins with its turn: those that hang must not use up everybody's.
    """
    slots, present = asyncio.Semaphore(AT_ONCE), asyncio.Semaphore(OPEN)

    async def one(each: Asked) -> Answer:
        async with present, _slot(slots):
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
