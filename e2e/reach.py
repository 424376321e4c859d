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
import socket
import subprocess
import threading
from collections.abc import Iterator
from typing import Any

from e2e.cluster.forward import Ends, listen
from zerotide.api.names import COMPONENT_ACTIVATOR, LABEL_COMPONENT

LOOK = 0.5
PORT = re.compile(rb"Forwarding from 127\.0\.0\.1:([0-9]+)")


class Reach:
    """Forward one local port to the ready activators: what `listen` carries connections to."""

    def __init__(self, kubectl: str, kubeconfig: str, namespace: str) -> None:
        self._command = [kubectl, "--kubeconfig", kubeconfig, "-n", namespace]
        self._forwards: dict[str, tuple[asyncio.subprocess.Process, int]] = {}
        self._turn = itertools.count()
        self.url = ""

    async def serve(self, listening: threading.Event) -> None:
        """Forward until cancelled; `url` is set before `listening` is."""
        server = await listen(socket.create_server(("127.0.0.1", 0)), self)
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

    async def connect(self) -> Ends:
        """Open a connection to the next activator. Raises OSError, also while none is ready."""
        ports = [port for _, port in self._forwards.values()]
        if not ports:
            raise ConnectionRefusedError("no activator is ready")
        return await asyncio.open_connection("127.0.0.1", ports[next(self._turn) % len(ports)])

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


def serves(pod: Any) -> bool:
    """Tell whether a pod is ready and stays."""
    conditions = {item["type"]: item["status"] for item in pod["status"].get("conditions", ())}
    return conditions.get("Ready") == "True" and "deletionTimestamp" not in pod["metadata"]


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


@contextlib.contextmanager
def forwarded(kubectl: str, kubeconfig: str, pod: Any) -> Iterator[str]:
    """Give the address at which a pod's first port answers on this machine while the context is open."""
    metadata, port = pod["metadata"], pod["spec"]["containers"][0]["ports"][0]["containerPort"]
    command = [kubectl, "--kubeconfig", kubeconfig, "-n", metadata["namespace"], "port-forward"]
    command += [f"pod/{metadata['name']}", f":{port}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        assert process.stdout is not None
        try:
            said = process.stdout.readline()
            found = PORT.search(said)
            assert found is not None, said
            yield f"http://127.0.0.1:{int(found[1])}"
        finally:
            process.terminate()
