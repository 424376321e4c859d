"""A crowd of clients inside the local cluster's network, where Services have addresses; none of them ever retries.

The test makes a `Crowd` of groups; each client is a connection of its own. What the crowd's process prints is one JSON
line for each answer. A `steady` group goes on, one request after the other, until the crowd is dismissed.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any, Self

import aiohttp

from e2e.cluster import Cluster

PAUSE = 0.05
"""Seconds between two requests of a steady client."""


@dataclass(frozen=True)
class Group:
    """Clients that do the same. `steady` keeps its connections, `fresh` makes a new one for each request."""

    name: str
    url: str
    key: str
    body: dict[str, Any]
    count: int = 1
    steady: bool = False
    fresh: bool = False
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Told:
    """One answer: its status (0: none came), the events that came, whether it was whole, and what went wrong."""

    group: str
    status: int
    events: int = 0
    whole: bool = False
    error: str = ""
    pod: str = ""
    seconds: float = 0.0

    @property
    def good(self) -> bool:
        """Tell whether it is what the client wanted."""
        return self.status == 200 and self.whole


class Crowd:
    """The test's side: clients that run in a process inside the cluster until all are answered."""

    def __init__(self, cluster: Cluster, groups: list[Group]) -> None:
        self._lines: list[Told] = []
        self._process = cluster.run_inside(
            [sys.executable, "-m", "e2e.crowd"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._stdin.write(json.dumps([asdict(group) for group in groups]) + "\n")
        self._stdin.flush()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def __enter__(self) -> Self:
        """Have the clients at work."""
        return self

    def __exit__(self, *_: object) -> None:
        """End whatever is left."""
        self._process.kill()
        self._process.wait()
        self._reader.join()
        self._stdin.close()
        assert self._process.stdout is not None
        self._process.stdout.close()

    @property
    def told(self) -> list[Told]:
        """Return the answers so far."""
        return list(self._lines)

    def dismiss(self, timeout: float) -> dict[str, list[Told]]:
        """Let steady clients end, wait for all answers, and return them by group. Raises TimeoutError."""
        self._stdin.write("\n")
        self._stdin.flush()
        self._reader.join(timeout)
        if self._reader.is_alive():
            raise TimeoutError(f"some clients have no answer; there are {Counter(each.group for each in self.told)}")
        groups: dict[str, list[Told]] = {}
        for each in self.told:
            groups.setdefault(each.group, []).append(each)
        return groups

    @property
    def _stdin(self) -> Any:
        return self._process.stdin

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.append(Told(**json.loads(line)))


def bad(answers: list[Told]) -> list[Told]:
    """Return the answers that are not what their clients wanted, some of them."""
    return [each for each in answers if not each.good][:5]


async def ask(session: aiohttp.ClientSession, group: Group) -> Told:
    """Send one request and read its answer to the end."""
    sent = {**group.headers, "Authorization": f"Bearer {group.key}"}
    began, status, pod, text = time.monotonic(), 0, "", b""
    try:
        async with session.post(group.url, json=group.body, headers=sent) as response:
            status, pod = response.status, response.headers.get("X-Pod", "")
            async for part in response.content.iter_any():
                text += part
        error = "" if status == 200 and b'"error":' not in text else text[-300:].decode()
    except (aiohttp.ClientError, TimeoutError) as broken:
        error = f"{broken!r} after {text[-100:]!r}"
    stream = group.body.get("stream")
    whole = not error and (text.endswith(b"data: [DONE]\n\n") if stream else text.endswith(b"}"))
    seconds = round(time.monotonic() - began, 3)
    return Told(group.name, status, text.count(b'"delta":'), whole, error, pod, seconds)


async def client(group: Group, dismissed: asyncio.Event) -> None:
    """Be one client."""
    while True:
        connector = aiohttp.TCPConnector(limit=1, force_close=not group.steady or group.fresh)
        limits = aiohttp.ClientTimeout(total=None, sock_read=120)
        async with aiohttp.ClientSession(connector=connector, timeout=limits) as session:
            while True:
                print(json.dumps(asdict(await ask(session, group))), flush=True)
                if dismissed.is_set() or not group.steady:
                    return
                await asyncio.sleep(PAUSE)


async def main() -> None:
    """Run the clients of all groups."""
    groups = [Group(**each) for each in json.loads(await asyncio.to_thread(sys.stdin.readline))]
    dismissed = asyncio.Event()
    clients = [asyncio.create_task(client(group, dismissed)) for group in groups for _ in range(group.count)]
    await asyncio.to_thread(sys.stdin.readline)
    dismissed.set()
    await asyncio.gather(*clients)


if __name__ == "__main__":
    asyncio.run(main())
