"""A client inside the cluster's network that measures starts; it takes one JSON command per line on stdin.

{"op": "floor", "namespace"}         scale the bare Deployment to 1, dial its pod's IP
{"op": "wake", "target"}             one request, to its answer's first byte
{"op": "herd", "target", "count"}    so many at once, each on a connection of its own, to the last answer

A target is a `Target` by its fields. Each answers
two lines: the seconds at once, then `marks`, after how many seconds a watch here showed the Deployment scaled, and its
pod created, placed on a node, and with an address (the floor its `stages` too, the herd when the first was answered).
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from bench.wake.marks import Marks
from bench.wake.target import Target
from bench.wire.load import Generator
from bench.wire.programs import compiled
from zerotide.kube import Client, load_credentials
from zerotide.kube.resources import DEPLOYMENTS, SERVICES

PATIENCE = 60
"""Seconds that a herd may take."""


async def first_byte(host: str, port: int, request: bytes) -> None:
    """Send a request and wait for the first byte of a 200 answer. Raises OSError, RuntimeError."""
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(request)
        first = await reader.read(12)
        if not first:
            raise ConnectionResetError("closed before an answer")
        if b" 200" not in first:
            raise RuntimeError(f"unexpected answer: {first + await reader.read(1000)!r}")
    finally:
        writer.close()


def tell(seconds: float) -> None:
    """Answer the first line."""
    print(json.dumps({"seconds": seconds}), flush=True)


async def floor(client: Client, namespace: str) -> dict[str, Any]:
    """Measure a bare scale patch and a dial of the pod's IP, then wait until the pod is gone again."""
    async with Marks(client, namespace, "floor", "app=floor") as marks:
        scale = {"spec": {"replicas": 1}}
        patching = asyncio.create_task(client.patch(DEPLOYMENTS, "floor", namespace, scale, subresource="scale"))
        ip = await marks.address
        while True:
            try:
                await first_byte(ip, 8000, b"GET / HTTP/1.1\r\nHost: floor\r\n\r\n")
                break
            except OSError:
                await asyncio.sleep(0.002)
        total, placed = marks.elapsed(), marks.seen["placed"]
        tell(total)
        await patching
        await client.patch(DEPLOYMENTS, "floor", namespace, {"spec": {"replicas": 0}}, subresource="scale")
        await marks.gone.wait()
    return {"stages": {"provision": placed, "pull": total - placed}, "marks": marks.seen}


async def wake(client: Client, target: dict[str, Any]) -> dict[str, Any]:
    """Measure one request through a Service, from its first byte to the answer's."""
    it = Target(**target)
    host = await address(client, it)
    async with watched(client, it) as marks:
        await first_byte(host, 80, it.request())
        tell(marks.elapsed())
    return {"marks": marks.seen}


async def herd(client: Client, target: dict[str, Any], count: int) -> dict[str, Any]:
    """Measure many requests at once, from the first connection to the last answer. Raises LoadFailed."""
    it = Target(**target)
    flags = {"address": await address(client, it), "connections": count, "opening": count, "seconds": PATIENCE}
    with tempfile.TemporaryDirectory(prefix="bench-wake-") as folder:
        generator = Generator(compiled("load"), Path(folder), core="")
        async with watched(client, it) as marks:
            load = await asyncio.to_thread(generator.run, "held", 80, it.request(), lambda: 0, **flags)
            load.all_well(it.deployment)
            tell((load.last_us - load.began_us) / 1e6)
    return {"marks": {**marks.seen, "first answer": (load.first_us - load.began_us) / 1e6}}


def watched(client: Client, target: Target) -> Marks:
    """Return what shall be seen of its start."""
    return Marks(client, target.namespace, target.deployment, target.selector)


async def address(client: Client, target: Target) -> str:
    """Return the address of its Service."""
    namespace, name = target.service
    return str((await client.get(SERVICES, name, namespace))["spec"]["clusterIP"])


async def main() -> None:
    """Answer commands until stdin ends."""
    operations: dict[str, Callable[..., Awaitable[dict[str, Any]]]] = {"floor": floor, "wake": wake, "herd": herd}
    async with Client(await load_credentials()) as client:
        while line := await asyncio.to_thread(sys.stdin.readline):
            command: dict[str, Any] = json.loads(line)
            operation = operations[command.pop("op")]
            print(json.dumps(await operation(client, **command)), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
