"""The wire benchmark with a real API server; runs in the cluster's network, started by `bench.bench_wire`."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bench.knative import activator as knative
from bench.knative.install import programs
from bench.wire import requests
from bench.wire.load import LoadFailed
from bench.wire.measure import Figures, Plan, measure
from bench.wire.peers import ROOT, Peer, bare, rival
from bench.wire.processes import LOAD_CORE, PROXY_CORE, Running, free_port, running
from bench.wire.programs import compiled
from bench.wire.world import MOST, NAMESPACE, World, world
from e2e.cluster.layout import NODE_ADDRESS


def ours_command(port: int, admin_port: int, **more: object) -> list[str]:
    """Return the activator's command line: keys are checked, usage is written; `more` are flags."""
    flags = {
        "listen": "127.0.0.1",
        "port": port,
        "admin-port": admin_port,
        "exporter-url": "none",
        "pod-name": "activator-0",
        "pod-namespace": NAMESPACE,
        **more,
    }
    return [sys.executable, "-m", "zerotide.activator", *(f"--{name}={value}" for name, value in flags.items())]


def start_backend(stack: contextlib.ExitStack, folder: Path) -> int:
    """Run the backend and return its port."""
    port = free_port()
    command = [str(compiled("backend")), "--port", str(port)]
    stack.enter_context(running("backend", command, LOAD_CORE, folder)).wait_listening(port)
    return port


def start_ours(stack: contextlib.ExitStack, folder: Path, name: str = "ours", **flags: Any) -> tuple[Running, int, int]:
    """Run the activator with further flags; return it, its port and its admin port."""
    port, admin = free_port(), free_port()
    command = ours_command(port, admin, **{"usage-dir": folder / "usage", **flags})
    process = stack.enter_context(running(name, command, PROXY_CORE, folder, cwd=ROOT))
    process.wait_listening(port, timeout=60)
    return process, port, admin


def start_knative(stack: contextlib.ExitStack, folder: Path, program: Path) -> Running:
    """Run Knative's activator."""
    options = {"env": knative.environment()}
    process = stack.enter_context(running("knative", knative.command(program), PROXY_CORE, folder, **options))
    process.wait_listening(knative.PORT, timeout=60)
    return process


async def peers(stack: contextlib.ExitStack, folder: Path, it: World, with_knative: bool) -> list[Peer]:
    """Start everybody before one backend. Raises NotServing, LoadFailed."""
    backend = start_backend(stack, folder)
    found = [Peer("direct", backend)]
    found += [stack.enter_context(rival(name, folder, NODE_ADDRESS, backend)) for name in ("haproxy", "nginx")]
    access = {"maxInFlightPerConsumer": MOST}
    await it.endpoint(access=access, scaling={"concurrency": {"limit": 0}})
    await it.status(desiredReplicas=1, state="Awake")
    key = await it.key()
    await it.pod("m-1", "m", backend)
    await it.address("m-1", NODE_ADDRESS)
    found.append(stack.enter_context(bare(folder, NODE_ADDRESS, backend)))
    process, port, _ = start_ours(stack, folder)
    found.append(Peer("ours", port, key, process))
    if with_knative:
        await knative.prepare(it.client)
        process = start_knative(stack, folder, programs("activator")["activator"])
        await knative.address(it.client, [NODE_ADDRESS], backend)
        found.append(Peer("knative", knative.PORT, process=process))
    # Everybody's request is the same, byte for byte.
    found = [Peer(peer.name, peer.port, key, peer.process) for peer in found]
    for peer in found:
        await asyncio.to_thread(until_answered, peer.name, peer.port, requests.chat(key))
    return found


def until_answered(name: str, port: int, request: bytes, timeout: float = 20.0) -> None:
    """Send a request until it is answered 200. Raises LoadFailed."""
    deadline = time.monotonic() + timeout
    while True:
        with socket.create_connection(("127.0.0.1", port), 10) as connection:
            connection.sendall(request)
            answer = connection.recv(4096)
        if b" 200 " in answer[:13]:
            return
        if time.monotonic() > deadline:
            raise LoadFailed(f"{name} answers {answer[:400]!r}")
        time.sleep(0.2)


async def run(plan: Plan, streams: bool, with_knative: bool) -> dict[str, Figures]:
    """Measure everybody and return what each has shown."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-wire-")))
        async with world() as it:
            everybody = await peers(stack, folder, it, with_knative)
            return await asyncio.to_thread(measure, compiled("load"), folder, everybody, plan, streams=streams)
