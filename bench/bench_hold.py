"""What a held request costs, and how soon it is answered when an address appears: `make bench-hold`.

The activator and Knative's, alone, at a real API server: 200 requests held, then an address, several times in turn;
then 12,000 held at once; then, ours only, an endpoint that may hold 1,000 and holds them, to which clients keep coming.
Ours takes part a second time as two processes that act as one, for what a council costs. An address appears when the
API server has answered the write of it.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import sys
import tempfile
from pathlib import Path

from bench.hold.holders import AT_ONCE, BOUND, bounded, hold, limits, start
from bench.hold.table import Outcome, result, table
from bench.knative.install import programs
from bench.local import local_cluster, prepare_process, run_again_inside
from bench.wire import requests
from bench.wire.load import Generator
from bench.wire.programs import compiled, say
from bench.wire.world import world


async def run(held: int, rounds: int, seconds: float, processes: int) -> None:
    """Measure, and print a table and the RESULT line."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-hold-")))
        async with world() as it:
            request = requests.chat(await it.key())
            holders = await start(stack, folder, it, processes)
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
    print("RESULT " + json.dumps(result(outcomes)))


def main() -> None:
    """Start a cluster and measure in its network."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--held", type=int, default=12_000, help="requests held at once for their memory")
    parser.add_argument("--rounds", type=int, default=5, help="times 200 requests are held and released")
    parser.add_argument("--seconds", type=float, default=10.0, help="time for which clients come to a full endpoint")
    parser.add_argument("--processes", type=int, default=2, help="processes of a council; 0 leaves it out")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    prepare_process()
    if given.inside:
        asyncio.run(run(given.held, given.rounds, given.seconds, given.processes))
        return
    programs("activator")
    with local_cluster("zerotide-bench-hold") as cluster:
        sys.exit(run_again_inside(cluster, "bench.bench_hold", ["--inside", *sys.argv[1:]]))


if __name__ == "__main__":
    main()
