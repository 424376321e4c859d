"""Those that hold: how each is started, gets an address and loses it, and is filled."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.hold.table import COUNCIL, KNATIVE, OURS, Bounded
from bench.hold.waiting import until_gauge, until_holding, until_quiet
from bench.knative import activator as knative
from bench.knative.install import programs
from bench.wire.inside import start_backend, start_knative, start_ours
from bench.wire.load import Generator, Load, next_line, parse
from bench.wire.processes import Running, free_port
from bench.wire.world import MOST, World
from e2e.cluster.layout import NODE_ADDRESS
from zerotide.kube import NotFound

Step = Callable[[], Awaitable[None]]
AT_ONCE, BOUND = 200, 1_000
# One client holds everything here, from one address.
ROOMY: dict[str, Any] = {
    "limit-connections": MOST,
    "limit-connections-per-address": 0,
    "hold-total-max-requests": MOST,
    "hold-namespace-max-requests": MOST,
    "hold-consumer-max-requests": MOST,
}


@dataclass(frozen=True)
class Holder:
    """One that holds: how its endpoint gets an address and loses it; without an admin port it tells no gauge."""

    name: str
    port: int
    process: Running
    asleep: Step
    awake: Step
    admin: int = 0

    async def at_rest(self, held: int) -> None:
        """Wait until it holds so many, and has nothing else to do."""
        if self.admin:
            await until_gauge(self.admin, held)
        await until_quiet(self.process.cpu_us)


@contextlib.contextmanager
def holding(generator: Generator, port: int, request: bytes, count: int) -> Iterator[subprocess.Popen[str]]:
    """Have so many requests on their way; the process prints a line when all are sent, and one at its end."""
    client = generator.start("held", port, request, connections=count, seconds=100)
    try:
        yield client
    finally:
        client.kill()
        client.wait()
        if client.stdout is not None:
            client.stdout.close()


async def hold(generator: Generator, who: Holder, request: bytes, count: int) -> tuple[Load, float, int, int]:
    """Hold so many, then give an address; return the load, the address's instant in us, RSS before and when held."""
    await who.asleep()
    await until_holding(who.port, request)
    await who.at_rest(0)
    before = who.process.rss()
    with holding(generator, who.port, request, count) as client:
        begin = await asyncio.to_thread(next_line, client)
        await who.at_rest(count)
        full = who.process.rss()
        await who.awake()
        appeared = time.monotonic() * 1e6
        load = parse(begin, await asyncio.to_thread(next_line, client), 0)
        return load, appeared, before, full


async def bounded(generator: Generator, who: Holder, request: bytes, seconds: float) -> Bounded:
    """Fill an endpoint to its bound, and let clients come for a while. Raises LoadFailed."""
    await who.asleep()
    await until_holding(who.port, request)
    await who.at_rest(0)
    with holding(generator, who.port, request, BOUND) as client:
        await asyncio.to_thread(next_line, client)
        await who.at_rest(BOUND)
        seen: list[int] = []

        def look() -> int:
            seen.append(who.process.rss())
            return 0

        flags = {"connections": 64, "seconds": seconds}
        load = await asyncio.to_thread(generator.run, "closed", who.port, request, look, **flags)
        await until_gauge(who.admin, BOUND)
        return Bounded(BOUND, seen[0], seen[-1], load).checked()


async def limits(it: World, most: int) -> None:
    """Let the endpoint hold so many; nothing else bounds them."""
    access = {"maxInFlightPerConsumer": MOST}
    # Knative's revision has no limit of its own either, so that both let all go at once.
    scaling = {"concurrency": {"limit": 0}}
    await it.endpoint(hold={"maxRequests": most, "maxBytes": "4Gi"}, access=access, scaling=scaling)


async def start(stack: contextlib.ExitStack, folder: Path, it: World, processes: int) -> list[Holder]:
    """Start everybody before one backend: ours, Knative's, and ours as several processes where there shall be any."""
    backend = start_backend(stack, folder)

    async def asleep() -> None:
        with contextlib.suppress(NotFound):
            await it.gone("m-1")
        await it.status(desiredReplicas=0, state="Asleep")

    async def awake() -> None:
        await it.status(desiredReplicas=1, state="Waking")
        await it.pod("m-1", "m", backend)
        await it.address("m-1", NODE_ADDRESS)

    await limits(it, MOST)
    await asleep()
    process, port, admin = start_ours(stack, folder, **ROOMY)
    await knative.prepare(it.client)
    theirs = start_knative(stack, folder, programs("activator")["activator"])
    found = [
        Holder(OURS, port, process, asleep, awake, admin),
        Holder(
            KNATIVE,
            knative.PORT,
            theirs,
            lambda: knative.address(it.client, [], backend),
            lambda: knative.address(it.client, [NODE_ADDRESS], backend),
        ),
    ]
    if processes:
        process, port, admin = await start_council(stack, folder, it, processes)
        found.append(Holder(COUNCIL, port, process, asleep, awake, admin))
    return found


async def start_council(
    stack: contextlib.ExitStack, folder: Path, it: World, processes: int
) -> tuple[Running, int, int]:
    """Run an activator of several processes, which act as one: they share the port, and talk about what they hold."""
    token = folder / "council-token"
    token.write_text(await it.activators(COUNCIL, processes, NODE_ADDRESS))
    # Each process has a port of its own for the others, one after the other.
    first, *_ = [free_port() for _ in range(processes)]
    flags: dict[str, Any] = {
        **ROOMY,
        "listen": "0.0.0.0",
        "processes": processes,
        "pod-namespace": COUNCIL,
        "council-port": first,
        "council-token-file": token,
        "usage-dir": folder / "usage-of-council",
    }
    return start_ours(stack, folder, name=COUNCIL, **flags)
