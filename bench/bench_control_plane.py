"""The operator with many endpoints, on a real API server, controller manager and scheduler: `make bench-control-plane`.

So many endpoints are created as fast as the API server takes them, until each is Ready and asleep; then nothing happens
for a while; then the operator is started again; then 1,000 endpoints get a request at once. Nodes and pods are KWOK's:
nothing runs in them, and every pod's address leads to one backend, so a request is answered once its pod is there.
The activator is the real one; the figures of memory and processor are the operator's.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import sys
import tempfile
from pathlib import Path

from bench.control_plane import nodes
from bench.control_plane.measure import Plan, measure
from bench.control_plane.table import Outcome, result, table
from bench.local import favour, prepare_process, run_again_inside
from bench.wire.programs import compiled, say
from e2e.cluster import Cluster
from zerotide.reconcile.config import ServiceType


async def run(plan: Plan) -> None:
    """Measure, and print a table, of a run that failed of the steps before, and the RESULT line of one that did not."""
    outcome = Outcome(plan.endpoints, plan.service_type)
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-control-plane-")))
        try:
            await measure(stack, folder, plan, outcome)
        finally:
            print(table(outcome), flush=True)
    print("RESULT " + json.dumps(result(outcome)))


def main() -> None:
    """Start a cluster and measure in its network."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--endpoints", type=int, default=10_000, help="endpoints that are created")
    parser.add_argument("--wakes", type=int, default=1_000, help="endpoints that get a request at once, at the end")
    parser.add_argument("--idle", type=float, default=60.0, help="seconds for which nothing happens")
    types = list(map(str, ServiceType))
    parser.add_argument("--service-type", choices=types, default=types[0], help="how names of endpoints lead to us")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    prepare_process()
    if given.inside:
        wakes = min(given.wakes, given.endpoints)
        asyncio.run(run(Plan(given.endpoints, wakes, given.idle, ServiceType(given.service_type))))
        return
    nodes.program()
    compiled("backend")
    cluster = Cluster("zerotide-bench-plane")
    try:
        # The node of this machine has no GPUs, so no endpoint's pod comes to it.
        cluster.up(gpus=0, say=say)
        favour(cluster)
        sys.exit(run_again_inside(cluster, "bench.bench_control_plane", ["--inside", *sys.argv[1:]]))
    finally:
        cluster.down()


if __name__ == "__main__":
    main()
