"""What the activator's wire costs, beside other proxies: `make bench-wire`, or `python -m bench.bench_wire --quick`.

Each proxy has a core alone and the same backend behind it; the load generator and the backend share the other core.
Every peer gets the same bytes, in turn, round after round: as much as it takes over 32 connections, 500 requests a
second by the clock, and a thousand streams. `--quick` starts the activator's parts in one process with objects put in
by hand, beside HAProxy: no cluster, no Knative, under a minute.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import signal
import sys
import tempfile
from pathlib import Path

from bench.wire import requests
from bench.wire.measure import Figures, Plan, measure
from bench.wire.peers import Peer, alone, rival
from bench.wire.processes import LOAD_CORE, free_port, running
from bench.wire.programs import PROXIES, compiled, ensure_packages
from bench.wire.table import result, rows, table


def quick(plan: Plan, names: list[str], streams: bool) -> dict[str, Figures]:
    """Measure without a cluster."""
    ensure_packages({package: command for package, command in PROXIES.items() if command in names})
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-wire-")))
        backend = free_port()
        command = [str(compiled("backend")), "--port", str(backend)]
        stack.enter_context(running("backend", command, LOAD_CORE, folder)).wait_listening(backend)
        peers = [Peer("direct", backend)]
        peers += [stack.enter_context(rival(name, folder, "127.0.0.1", backend)) for name in names]
        peers.append(stack.enter_context(alone(folder, backend)))
        return measure(compiled("load"), folder, peers, plan, streams=streams)


def main() -> None:
    """Measure and print a table and the RESULT line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="no cluster: the activator's parts alone, HAProxy, direct")
    parser.add_argument("--rounds", type=int, help="times every load is sent to every peer")
    parser.add_argument("--seconds", type=float, help="seconds for which each is measured, after a second of warm-up")
    parser.add_argument("--no-streams", action="store_true", help="leave the streams out")
    parser.add_argument("--few-headers", action="store_true", help="three headers instead of the openai client's")
    given = parser.parse_args()
    # Everything that was started ends with this process, however it is asked to end.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    headers = requests.FEW if given.few_headers else requests.OPENAI
    if not given.quick:
        parser.error("only --quick yet")
    plan = Plan(given.rounds or 3, given.seconds or 2.0, headers=headers)
    figures = quick(plan, ["haproxy"], not given.no_streams)
    by_peer = rows(figures)
    print(table(by_peer, {}))
    print("RESULT " + json.dumps(result(by_peer)))


if __name__ == "__main__":
    main()
