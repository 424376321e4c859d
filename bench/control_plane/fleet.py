"""Many endpoints: how they are made, and how many of them are called at once."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterable
from typing import Any

from bench.wire.world import MANAGER, namespace
from zerotide.api.names import API_VERSION, KIND_ENDPOINT
from zerotide.kube import Client
from zerotide.kube.resources import INFERENCE_ENDPOINTS

Json = dict[str, Any]
EACH = 200
"""Endpoints of a namespace."""
AT_ONCE = 32
"""Endpoints that are created at a time, as by a tool with so many connections."""
IMAGE = "localhost/none:1"


def spec() -> Json:
    """Return the spec of each: a replica has a GPU, and is never asleep again while the benchmark lasts."""
    return {
        "model": {"uri": "image:///m"},
        "runtime": {"engine": "custom", "image": IMAGE},
        "accelerator": {"count": 1},
        "resources": {"requests": {"cpu": "1", "memory": "1Gi"}},
        "scaling": {"idle": {"timeout": "1h"}},
        "access": {"auth": "Open"},
    }


def names(count: int) -> list[tuple[str, str]]:
    """Return so many endpoints as (namespace, name)."""
    return [(f"fleet-{number // EACH}", f"m-{number % EACH}") for number in range(count)]


async def make(client: Client, endpoints: list[tuple[str, str]]) -> None:
    """Create endpoints, in the order of their names."""
    for space in dict.fromkeys(space for space, _ in endpoints):
        await namespace(client, space)
    left = iter(endpoints)

    async def one_after_the_other() -> None:
        for space, name in left:
            body = {"apiVersion": API_VERSION, "kind": KIND_ENDPOINT, "metadata": {"namespace": space, "name": name}}
            await client.create(INFERENCE_ENDPOINTS, {**body, "spec": spec()}, manager=MANAGER)

    await asyncio.gather(*(one_after_the_other() for _ in range(AT_ONCE)))


async def call(address: str, port: int, endpoints: Iterable[tuple[str, str]], timeout: float) -> list[float]:
    """Send one request to each at once, and return the seconds from its first byte to that of its answer.

    Raises RuntimeError for an answer that is no success, TimeoutError.
    """
    async with asyncio.timeout(timeout):
        return await asyncio.gather(*(_ask(address, port, space, name) for space, name in endpoints))


async def _ask(address: str, port: int, space: str, name: str) -> float:
    reader, writer = await asyncio.open_connection(address, port)
    body = json.dumps({"model": name, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 4})
    head = f"POST /endpoints/{space}/{name}/v1/chat/completions HTTP/1.1\r\nHost: bench\r\n"
    head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    began = time.monotonic()
    writer.write((head + body).encode())
    first = await reader.read(12)
    if b" 200" not in first:
        raise RuntimeError(f"{space}/{name}: unexpected answer: {first + await reader.read(1000)!r}")
    took = time.monotonic() - began
    writer.close()
    return took
