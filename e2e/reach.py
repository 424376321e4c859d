"""Reach the gateway of a cluster whose network is not this machine's, as its Service would: one activator or the other.

One `kubectl port-forward` runs for each activator that is ready; each connection goes to the next of them. kubectl
carries no reset and no half-close, so tests of broken connections mean less here than on the local cluster.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import re
import threading
from collections.abc import Iterator
from typing import Any

from zerotide.api.names import COMPONENT_ACTIVATOR, LABEL_COMPONENT

LOOK = 0.5
PORT = re.compile(rb"Forwarding from 127\.0\.0\.1:([0-9]+)")


class Reach:
    """Forward one local port to the ready activators."""

    def __init__(self, kubectl: str, kubeconfig: str, namespace: str) -> None:
        self._command = [kubectl, "--kubeconfig", kubeconfig, "-n", namespace]
        self._forwards: dict[str, tuple[asyncio.subprocess.Process, int]] = {}
        self._turn = itertools.count()
        self.url = ""

    async def serve(self, listening: threading.Event) -> None:
        """Forward until cancelled; `url` is set before `listening` is."""
        server = await asyncio.start_server(self._carry, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        listening.set()
        try:
            async with server:
                while True:
                    await self._look()
                    await asyncio.sleep(LOOK)
        finally:
            for process, _ in self._forwards.values():
                process.terminate()
                await process.wait()

    async def _look(self) -> None:
        """Forward to each activator that is ready, and to no other."""
        selector = f"{LABEL_COMPONENT}={COMPONENT_ACTIVATOR}"
        listed = await self._kubectl("get", "pods", "-l", selector, "-o", "json")
        ready = {pod["metadata"]["uid"]: pod for pod in json.loads(listed or b'{"items": []}')["items"] if serves(pod)}
        for uid, (process, _) in list(self._forwards.items()):
            if uid not in ready or process.returncode is not None:
                del self._forwards[uid]
                with contextlib.suppress(ProcessLookupError):
                    process.terminate()
                await process.wait()
        for uid, pod in ready.items():
            if uid not in self._forwards and (forward := await self._forward(pod)) is not None:
                self._forwards[uid] = forward

    async def _forward(self, pod: Any) -> tuple[asyncio.subprocess.Process, int] | None:
        ports = [port for container in pod["spec"]["containers"] for port in container.get("ports", ())]
        port = next(item["containerPort"] for item in ports if item["name"] == "http")
        command = [*self._command, "port-forward", f"pod/{pod['metadata']['name']}", f":{port}"]
        process = await asyncio.create_subprocess_exec(
            *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
        )
        assert process.stdout is not None
        found = PORT.search(await process.stdout.readline())
        if found is None:
            await process.wait()
            return None
        return process, int(found[1])

    async def _kubectl(self, *arguments: str) -> bytes:
        process = await asyncio.create_subprocess_exec(
            *self._command, *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
        )
        said, _ = await process.communicate()
        return said if process.returncode == 0 else b""

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer):
            forwards = list(self._forwards.values())
            if not forwards:
                return
            _, port = forwards[next(self._turn) % len(forwards)]
            with contextlib.suppress(OSError):
                inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", port)
                with contextlib.closing(inner_writer):
                    await _either(_pump(reader, inner_writer), _pump(inner_reader, writer))


def serves(pod: Any) -> bool:
    """Tell whether a pod is ready and stays."""
    conditions = {item["type"]: item["status"] for item in pod["status"].get("conditions", ())}
    return conditions.get("Ready") == "True" and "deletionTimestamp" not in pod["metadata"]


async def _either(*pumps: Any) -> None:
    tasks = [asyncio.ensure_future(pump) for pump in pumps]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(1 << 16):
        writer.write(data)
        await writer.drain()


@contextlib.contextmanager
def reached(kubectl: str, kubeconfig: str, namespace: str) -> Iterator[Reach]:
    """Forward in a thread of its own while the context is open."""
    reach, listening = Reach(kubectl, kubeconfig, namespace), threading.Event()
    loop = asyncio.new_event_loop()
    task: list[asyncio.Task[None]] = []

    def run() -> None:
        task.append(loop.create_task(reach.serve(listening)))
        with contextlib.suppress(asyncio.CancelledError):
            loop.run_until_complete(task[0])
        loop.close()

    thread = threading.Thread(target=run, name="reach")
    thread.start()
    try:
        if not listening.wait(30):
            raise TimeoutError("no local port for the gateway")
        yield reach
    finally:
        loop.call_soon_threadsafe(task[0].cancel)
        thread.join(30)
