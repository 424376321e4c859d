"""Send many requests at once, as clients do, and keep every answer."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import aiohttp


@dataclass(frozen=True)
class Answer:
    """One answer: its status (0 when the connection broke), headers in lower case, body, and seconds it took."""

    status: int
    headers: dict[str, str]
    body: str
    seconds: float

    @property
    def code(self) -> str:
        """Return Zerotide's error code, empty for a success."""
        return self.headers.get("x-zerotide-error", "")


async def send(session: aiohttp.ClientSession, url: str, key: str, body: Any, headers: dict[str, str]) -> Answer:
    """Send one POST and read the answer to its end."""
    sent = {**headers, **({"Authorization": f"Bearer {key}"} if key else {})}
    started = time.monotonic()
    try:
        async with session.post(url, json=body, headers=sent) as response:
            text = await response.text()
            received = {name.lower(): value for name, value in response.headers.items()}
            return Answer(response.status, received, text, time.monotonic() - started)
    except aiohttp.ClientError as error:
        return Answer(0, {}, repr(error), time.monotonic() - started)


async def burst(
    url: str, key: str, body: Any, count: int, *, headers: dict[str, str] | None = None, timeout: float = 120
) -> list[Answer]:
    """Send the same POST `count` times at once, each on a connection of its own."""
    connector = aiohttp.TCPConnector(limit=0, force_close=True)
    limits = aiohttp.ClientTimeout(total=timeout)
    async with aiohttp.ClientSession(connector=connector, timeout=limits) as session:
        return list(await asyncio.gather(*(send(session, url, key, body, headers or {}) for _ in range(count))))


async def once(url: str, key: str, body: Any, *, headers: dict[str, str] | None = None, timeout: float = 120) -> Answer:
    """Send one POST."""
    return (await burst(url, key, body, 1, headers=headers, timeout=timeout))[0]


def tally(answers: Iterable[Answer]) -> dict[int, int]:
    """Count the answers by status."""
    return dict(Counter(answer.status for answer in answers))
