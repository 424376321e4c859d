"""A client inside the cluster's network that measures wakes; it takes one JSON command per line on stdin.

{"op": "floor", "namespace"}              scale the bare Deployment to 1, dial its pod's IP, answer seconds and stages
{"op": "wake", "namespace", "name", "key"}  one chat request through the gateway, answer the seconds to its first byte
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Any

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


def scheduled(pod: dict[str, Any]) -> bool:
    """Tell whether a pod has got a node."""
    return bool(pod.get("spec", {}).get("nodeName"))


async def floor(client: Client, namespace: str) -> dict[str, Any]:
    """Measure a bare scale patch and a dial of the pod's IP, then wait until the pod is gone again."""
    address: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    gone = asyncio.Event()
    placed: list[float] = []

    def changed(change: Change) -> None:
        ip = change.object.get("status", {}).get("podIP")
        if not placed and scheduled(change.object):
            placed.append(time.monotonic())
        if change.type == "deleted":
            gone.set()
        elif ip and not address.done():
            address.set_result(ip)

    reflector = Reflector(client, PODS, namespace, label_selector="app=floor", on_change=changed)
    running = asyncio.create_task(reflector.run())
    await reflector.synced.wait()
    started = time.monotonic()
    scale = {"spec": {"replicas": 1}}
    patching = asyncio.create_task(client.patch(DEPLOYMENTS, "floor", namespace, scale, subresource="scale"))
    ip = await address
    while True:
        try:
            await first_byte(ip, 8000, b"GET / HTTP/1.1\r\nHost: floor\r\n\r\n")
            break
        except OSError:
            await asyncio.sleep(0.002)
    ended = time.monotonic()
    await patching
    await client.patch(DEPLOYMENTS, "floor", namespace, {"spec": {"replicas": 0}}, subresource="scale")
    await gone.wait()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    return {"seconds": ended - started, "stages": {"provision": placed[0] - started, "pull": ended - placed[0]}}


async def wake(client: Client, namespace: str, name: str, key: str) -> dict[str, Any]:
    """Measure one request through the gateway's Service, from its first byte to the answer's."""
    service = await client.get(SERVICES, "zerotide-gateway", "zerotide-system")
    question = [{"role": "user", "content": "Hi"}]
    body = json.dumps({"model": name, "messages": question, "max_tokens": 4}).encode()
    head = (
        f"POST /endpoints/{namespace}/{name}/v1/chat/completions HTTP/1.1\r\nHost: gateway\r\n"
        f"Authorization: Bearer {key}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    started = time.monotonic()
    await first_byte(service["spec"]["clusterIP"], 80, head.encode() + body)
    return {"seconds": time.monotonic() - started}


async def main() -> None:
    """Answer commands until stdin ends."""
    async with Client(await load_credentials()) as client:
        while line := await asyncio.to_thread(sys.stdin.readline):
            command: dict[str, Any] = json.loads(line)
            operation = command.pop("op")
            print(json.dumps(await (floor if operation == "floor" else wake)(client, **command)), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
