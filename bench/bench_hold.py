"""What a held request costs, and how soon it is answered when an address appears: `make bench-hold`.

The activator and Knative's, alone, at a real API server: 200 requests held, then an address, several times in turn;
then 12,000 held at once. An address appears when the API server has answered the write of it.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from bench.knative import activator as knative
from bench.knative.install import programs
from bench.local import local_cluster, prepare_process, run_again_inside
from bench.wire import requests
from bench.wire.inside import start_backend, start_knative, start_ours
from bench.wire.load import Generator, Load, next_line, parse
from bench.wire.processes import Running
from bench.wire.programs import compiled, say
from bench.wire.world import MOST, world
from e2e.cluster.layout import NODE_ADDRESS

Step = Callable[[], Awaitable[None]]


@dataclass(frozen=True)
class Holder:
    """One that holds: how its endpoint gets an address and loses it."""

    name: str
    port: int
    process: Running
    asleep: Step
    awake: Step


async def hold(generator: Generator, who: Holder, key: str, count: int) -> tuple[Load, float, int]:
    """Hold so many requests, then give an address; return the load, the address's instant in us, bytes in all."""
    await who.asleep()
    await asyncio.sleep(2)
    before = who.process.rss()
    client = generator.start("held", who.port, requests.chat(key), connections=count, seconds=100)
    try:
        begin = await asyncio.to_thread(next_line, client)
        await asyncio.sleep(1 if count < 1000 else 5)
        taken = who.process.rss() - before
        await who.awake()
        appeared = time.monotonic() * 1e6
        load = parse(begin, await asyncio.to_thread(next_line, client), 0).all_well(who.name)
        return load, appeared, taken
    finally:
        client.kill()
        client.wait()
        if client.stdout is not None:
            client.stdout.close()


async def run(held: int, rounds: int) -> None:
    """Measure, and print a table and the RESULT line."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-hold-")))
        async with world() as it:
            backend, key = start_backend(stack, folder), await it.key()
            limits = {"maxRequests": MOST, "maxBytes": "4Gi"}
            await it.endpoint(hold=limits, access={"maxInFlightPerConsumer": MOST})

            async def asleep() -> None:
                with contextlib.suppress(Exception):
                    await it.gone("m-1")
                await it.status(desiredReplicas=0, state="Asleep")

            async def awake() -> None:
                await it.status(desiredReplicas=1, state="Waking")
                await it.pod("m-1", "m", backend)
                await it.address("m-1", NODE_ADDRESS)

            await asleep()
            process, port, _ = start_ours(stack, folder)
            await knative.prepare(it.client)
            theirs = start_knative(stack, folder, programs("activator")["activator"])
            holders = [
                Holder("ours", port, process, asleep, awake),
                Holder(
                    "knative",
                    knative.PORT,
                    theirs,
                    lambda: knative.address(it.client, [], backend),
                    lambda: knative.address(it.client, [NODE_ADDRESS], backend),
                ),
            ]
            generator = Generator(compiled("load"), folder)
            first: dict[str, list[float]] = {"ours": [], "knative": []}
            last: dict[str, list[float]] = {"ours": [], "knative": []}
            for _ in range(rounds):
                for who in holders:
                    load, appeared, _taken = await hold(generator, who, key, 200)
                    first[who.name].append((load.first_us - appeared) / 1e3)
                    last[who.name].append((load.last_us - appeared) / 1e3)
                    say(f"  {who.name:10} first {first[who.name][-1]:8.1f} ms  last {last[who.name][-1]:8.1f} ms")
            each = {}
            for who in holders:
                load, _, taken = await hold(generator, who, key, held)
                each[who.name] = taken / load.answered
                say(f"  {who.name:10} {load.answered} held, {each[who.name]:.0f} bytes each")
    print(f"{'':10}{'first ms':>10}{'last ms':>10}{'bytes per held':>16}")
    for name in first:
        line = f"{statistics.median(first[name]):10.1f}{statistics.median(last[name]):10.1f}{each[name]:16,.0f}"
        print(f"{name:10}{line}")
    result = {
        "held": held,
        "bytes_per_held": round(each["ours"]),
        "first_ms": round(statistics.median(first["ours"]), 1),
        "last_ms": round(statistics.median(last["ours"]), 1),
        "knative_first_ms": round(statistics.median(first["knative"]), 1),
        "knative_last_ms": round(statistics.median(last["knative"]), 1),
    }
    print("RESULT " + json.dumps(result))


def main() -> None:
    """Start a cluster and measure in its network."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--held", type=int, default=12_000, help="requests held at once for their memory")
    parser.add_argument("--rounds", type=int, default=5, help="times 200 requests are held and released")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    prepare_process()
    if given.inside:
        asyncio.run(run(given.held, given.rounds))
        return
    programs("activator")
    with local_cluster("zerotide-bench-hold") as cluster:
        sys.exit(run_again_inside(cluster, "bench.bench_hold", ["--inside", *sys.argv[1:]]))


if __name__ == "__main__":
    main()
