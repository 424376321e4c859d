"""A client inside the cluster's network that measures wakes; it takes one JSON command per line on stdin.

{"op": "floor", "namespace"}              scale the bare Deployment to 1, dial its pod's IP, answer seconds and stages
{"op": "wake", "namespace", "name", "key"}  one chat request through the gateway, answer the seconds to its first byte

Both answer `marks` too: after how many seconds a watch here showed the Deployment scaled, and its pod created, placed
on a node, and with an address.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Any, Self

from zerotide.kube import Change, Client, Reflector, load_credentials
from zerotide.kube.resources import DEPLOYMENTS, PODS, SERVICES


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


class Marks:
    """When a Deployment and its pod were seen to come so far, in seconds since a start."""

    def __init__(self, client: Client, namespace: str, deployment: str, selector: str) -> None:
        self.address: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.gone = asyncio.Event()
        self.seen: dict[str, float] = {}
        self._started = float("inf")
        field = f"metadata.name={deployment}"
        self._mirrors = [
            Reflector(client, DEPLOYMENTS, namespace, field_selector=field, on_change=self._deployment),
            Reflector(client, PODS, namespace, label_selector=selector, on_change=self._pod),
        ]

    async def __aenter__(self) -> Self:
        """Follow both, and let the time begin."""
        self._running = [asyncio.create_task(mirror.run()) for mirror in self._mirrors]
        for mirror in self._mirrors:
            await mirror.synced.wait()
        self._started = time.monotonic()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Follow no longer."""
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    def elapsed(self) -> float:
        """Return the seconds since the time began."""
        return time.monotonic() - self._started

    def _deployment(self, change: Change) -> None:
        if change.object["spec"].get("replicas"):
            self._mark("scaled")

    def _pod(self, change: Change) -> None:
        address = change.object.get("status", {}).get("podIP")
        self._mark("created")
        if change.object.get("spec", {}).get("nodeName"):
            self._mark("placed")
        if change.type == "deleted":
            self.gone.set()
        elif address:
            self._mark("address")
            if not self.address.done():
                self.address.set_result(address)

    def _mark(self, name: str) -> None:
        self.seen.setdefault(name, self.elapsed())


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
        print(json.dumps({"seconds": total}), flush=True)
        await patching
        await client.patch(DEPLOYMENTS, "floor", namespace, {"spec": {"replicas": 0}}, subresource="scale")
        await marks.gone.wait()
    return {"stages": {"provision": placed, "pull": total - placed}, "marks": marks.seen}


async def wake(client: Client, namespace: str, name: str, key: str) -> dict[str, Any]:
    """Measure one request through the gateway's Service, from its first byte to the answer's."""
    service = await client.get(SERVICES, "zerotide-gateway", "zerotide-system")
    question = [{"role": "user", "content": "Hi"}]
    body = json.dumps({"model": name, "messages": question, "max_tokens": 4}).encode()
    head = (
        f"POST /endpoints/{namespace}/{name}/v1/chat/completions HTTP/1.1\r\nHost: gateway\r\n"
        f"Authorization: Bearer {key}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    async with Marks(client, namespace, name, f"zerotide.dev/endpoint={name}") as marks:
        await first_byte(service["spec"]["clusterIP"], 80, head.encode() + body)
        print(json.dumps({"seconds": marks.elapsed()}), flush=True)
    return {"marks": marks.seen}


async def main() -> None:
    """Answer commands until stdin ends, each with two lines: the seconds at once, the rest when it is known."""
    async with Client(await load_credentials()) as client:
        while line := await asyncio.to_thread(sys.stdin.readline):
            command: dict[str, Any] = json.loads(line)
            operation = command.pop("op")
            print(json.dumps(await (floor if operation == "floor" else wake)(client, **command)), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
