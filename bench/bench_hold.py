"""What a held request costs, and how soon it is answered when an address appears: `make bench-hold`.

The activator and Knative's, alone, at a real API server: 200 requests held, then an address, several times in turn;
then 12,000 held at once; then, ours only, an endpoint that may hold 1,000 and holds them, to which clients keep coming.
An address appears when the API server has answered the write of it.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.knative import activator as knative
from bench.knative.install import programs
from bench.local import local_cluster, prepare_process, run_again_inside
from bench.wire import requests
from bench.wire.held import Bounded, Outcome, result, table, until_gauge, until_holding, until_quiet
from bench.wire.inside import start_backend, start_knative, start_ours
from bench.wire.load import Generator, Load, next_line, parse
from bench.wire.processes import Running
from bench.wire.programs import compiled, say
from bench.wire.world import MOST, World, world
from e2e.cluster.layout import NODE_ADDRESS
from zerotide.kube import NotFound

Step = Callable[[], Awaitable[None]]
AT_ONCE, BOUND = 200, 1_000
# One client holds everything here, from one address.
ROOMY = {
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


async def start(stack: contextlib.ExitStack, folder: Path, it: World) -> list[Holder]:
    """Start both before one backend."""
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
    return [
        Holder("ours", port, process, asleep, awake, admin),
        Holder(
            "knative",
            knative.PORT,
            theirs,
            lambda: knative.address(it.client, [], backend),
            lambda: knative.address(it.client, [NODE_ADDRESS], backend),
        ),
    ]


async def run(held: int, rounds: int, seconds: float) -> None:
    """Measure, and print a table and the RESULT line."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-hold-")))
        async with world() as it:
            request = requests.chat(await it.key())
            holders = await start(stack, folder, it)
            generator = Generator(compiled("load"), folder)
            outcomes = {who.name: Outcome() for who in holders}
            for _ in range(rounds):
                for who in holders:
                    load, appeared, before, _full = await hold(generator, who, request, AT_ONCE)
                    outcome = outcomes[who.name]
                    outcome.released(load.all_well(who.name), appeared)
                    outcome.idle_bytes = outcome.idle_bytes or before
                    say(f"  {who.name:10} first {outcome.first_ms[-1]:8.1f} ms  last {outcome.last_ms[-1]:8.1f} ms")
            for who in holders:
                load, _, before, full = await hold(generator, who, request, held)
                outcome = outcomes[who.name]
                outcome.keeps(held, full - before, load)
                say(f"  {who.name:10} {held} held, {outcome.bytes_each:.0f} bytes each")
            await limits(it, BOUND)
            full_house = await bounded(generator, holders[0], request, seconds)
    print(table(outcomes))
    print(full_house.line())
    print("RESULT " + json.dumps(result(outcomes["ours"], outcomes["knative"])))


def main() -> None:
    """Start a cluster and measure in its network."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--held", type=int, default=12_000, help="requests held at once for their memory")
    parser.add_argument("--rounds", type=int, default=5, help="times 200 requests are held and released")
    parser.add_argument("--seconds", type=float, default=10.0, help="time for which clients come to a full endpoint")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    prepare_process()
    if given.inside:
        asyncio.run(run(given.held, given.rounds, given.seconds))
        return
    programs("activator")
    with local_cluster("zerotide-bench-hold") as cluster:
        sys.exit(run_again_inside(cluster, "bench.bench_hold", ["--inside", *sys.argv[1:]]))


if __name__ == "__main__":
    main()
