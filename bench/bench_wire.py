"""What the activator's wire costs, beside other proxies: `make bench-wire`, or `python -m bench.bench_wire --quick`.

Each proxy has a core alone and the same backend behind it; the load generator and the backend share the other core.
Every peer gets the same bytes, in turn, round after round: as much as it takes over 32 connections, 500 requests a
second by the clock, and a thousand streams. `--quick` starts the activator's parts in one process with objects put in
by hand, beside HAProxy and a bare relay in Python: no cluster and no Knative, for trying things out.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import sys
import tempfile
from pathlib import Path

from bench.knative.install import programs
from bench.local import local_cluster, prepare_process, run_again_inside
from bench.wire import requests
from bench.wire.inside import run, start_backend
from bench.wire.measure import Figures, Plan, measure
from bench.wire.peers import Peer, alone, bare, rival
from bench.wire.programs import PROXIES, compiled, ensure_packages
from bench.wire.table import ratios, result, rows, table

# Peers that the Go client cannot install, by the variable that names their program.
ELSEWHERE = {"KEDA": "PEER_KEDA_INTERCEPTOR", "KubeAI": "PEER_KUBEAI"}


def quick(plan: Plan, names: list[str], streams: bool) -> dict[str, Figures]:
    """Measure without a cluster."""
    ensure_packages({package: command for package, command in PROXIES.items() if command in names})
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-wire-")))
        backend = start_backend(stack, folder)
        peers = [Peer("direct", backend)]
        peers += [stack.enter_context(rival(name, folder, "127.0.0.1", backend)) for name in names]
        peers.append(stack.enter_context(bare(folder, "127.0.0.1", backend)))
        peers.append(stack.enter_context(alone(folder, backend)))
        return measure(compiled("load"), folder, peers, plan, streams=streams)


def why_absent(variable: str) -> str:
    """Say why a peer that cannot be installed by version has no figures."""
    return "not measured: named, but this benchmark cannot drive it" if os.environ.get(variable) else "not installed"


def main() -> None:
    """Measure and print a table and the RESULT line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="no cluster: the activator's parts alone, HAProxy, direct")
    parser.add_argument("--rounds", type=int, help="times every load is sent to every peer")
    parser.add_argument("--seconds", type=float, help="seconds for which each is measured, after a second of warm-up")
    parser.add_argument("--no-streams", action="store_true", help="leave the streams out")
    parser.add_argument("--no-knative", action="store_true", help="leave Knative's activator out")
    parser.add_argument("--few-headers", action="store_true", help="three headers instead of the openai client's")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    prepare_process()
    if not given.quick and not given.inside:
        sys.exit(outside(given.no_knative))
    headers = requests.FEW if given.few_headers else requests.OPENAI
    plan = Plan(given.rounds or 3, given.seconds or (2.0 if given.quick else 3.0), headers=headers)
    absent = {}
    if given.quick:
        figures = quick(plan, ["haproxy"], not given.no_streams)
    else:
        figures = asyncio.run(run(plan, not given.no_streams, not given.no_knative))
        absent = {name: why_absent(variable) for name, variable in ELSEWHERE.items()}
    by_peer = rows(figures)
    print(table(by_peer, absent))
    print(ratios(by_peer))
    print("RESULT " + json.dumps(result(by_peer)))


def outside(no_knative: bool) -> int:
    """Install what is needed, start a cluster, and measure in its network."""
    ensure_packages(PROXIES)
    if not no_knative:
        programs("activator")
    with local_cluster("zerotide-bench-wire") as cluster:
        return run_again_inside(cluster, "bench.bench_wire", ["--inside", *sys.argv[1:]])


if __name__ == "__main__":
    main()
