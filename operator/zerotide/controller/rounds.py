"""Ask replicas something again and again, a few at a time and each over a connection of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import aiohttp

AT_ONCE = 16


async def rounds(ask: Callable[[aiohttp.ClientSession], Awaitable[None]], *, every: float, patience: float) -> None:
    """Call `ask`, and then pause for `every` seconds, for ever; a replica has `patience` seconds to answer."""
    timeout = aiohttp.ClientTimeout(total=patience)
    connector = aiohttp.TCPConnector(limit=AT_ONCE, force_close=True)
    async with aiohttp.ClientSession(
        timeout=timeout, connector=connector, cookie_jar=aiohttp.DummyCookieJar(), trust_env=False
    ) as session:
        while True:
            await ask(session)
            await asyncio.sleep(every)
