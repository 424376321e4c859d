"""How long reports take on a large ledger: `make bench-reports`.

A SQLite ledger is filled with requests of one endpoint, as they come in a month: some replicas one after another and
beside each other, many requests in flight on each at a time, of many consumers. Then each report is asked for as
the HTTP interface does it, from the file to the JSON text. It needs no cluster and no network.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from zerotide.api.scalars import SECOND
from zerotide.api.usage import Intent, Outcome, Settlement, Tokens
from zerotide.billing.facts import SOURCE_SPEC, Accelerator, Allocation, Fact, Identity, Kind, encode
from zerotide.billing.ledger import Wake
from zerotide.billing.rating import Period
from zerotide.exporter.http import REPORTS
from zerotide.exporter.pricefile import load_prices
from zerotide.exporter.questions import Question, answer
from zerotide.exporter.sqlite import SQLiteStore
from zerotide.exporter.store import EndpointRecord

START = 1_790_000_000 * SECOND
AWAKE = 1800 * SECOND
BATCH = 2000


def fill(store: SQLiteStore, requests: int, pods: int, at_once: float, consumers: int) -> int:
    """Record everything and return the instant after it."""
    store.add_endpoint(EndpointRecord("iep", "demo", "busy", START, "demo/busy", 60 * SECOND, 1, 0, START))
    end = START
    for number in range(pods):
        born = START + number * (AWAKE + 600 * SECOND)
        end = born + AWAKE
        store.add_facts(list(life(f"pod-{number}", born)), born)
        stages = (("pull", 2 * SECOND), ("load", 8 * SECOND))
        store.add_wake(Wake("iep", f"wake-{number}", "demo", "busy", born, "Request", 10 * SECOND, stages))
    chance, records = random.Random(7), []
    per_pod = requests // pods
    for number in range(per_pod * pods):
        pod, place = divmod(number, per_pod)
        born = START + pod * (AWAKE + 600 * SECOND)
        begin = born + 10 * SECOND + place * (AWAKE - 120 * SECOND) // per_pod
        length = round(chance.uniform(0.5, 1.5) * at_once * (AWAKE - 120 * SECOND) / per_pod)
        consumer = f"demo/team-{chance.randrange(consumers)}"
        records += attempt(f"r-{number}", f"pod-{pod}", consumer, f"wake-{pod}" if place < 4 else "", begin, length)
        if len(records) >= BATCH:
            store.add_usage(records, [], end)
            records = []
    store.add_usage(records, [], end)
    return end


def life(uid: str, born: int) -> Iterator[Fact]:
    """Yield what is known of a replica that loaded, served and went."""
    for kind, key, after in (
        (Kind.POD, encode(Identity("demo", "busy", uid)), 0),
        (Kind.ALLOCATION, encode(Allocation("nvidia.com/gpu", 1)), 0),
        (Kind.ACCELERATOR, encode(Accelerator(SOURCE_SPEC, "nvidia-h100-80gb")), 0),
        (Kind.CREATED, "", 0),
        (Kind.SCHEDULED, "node-1", SECOND),
        (Kind.STARTED, "model", 2 * SECOND),
        (Kind.READY, "", 10 * SECOND),
        (Kind.DELETE, "", AWAKE - 5 * SECOND),
        (Kind.FINISHED, "", AWAKE),
    ):
        yield Fact("local", uid, kind, key, born + after)


def attempt(request: str, pod: str, consumer: str, wake: str, begin: int, length: int) -> list[Intent | Settlement]:
    """Return the two records of a request."""
    intent = Intent(
        request_id=request,
        attempt=1,
        namespace="demo",
        endpoint="busy",
        endpoint_uid="iep",
        consumer=consumer,
        pod_uid=pod,
        activator="activator-1",
        model="busy",
        stream=True,
        cold=bool(wake),
        wake_id=wake,
        accepted_us=begin,
        forwarded_us=begin,
        request_bytes=700,
    )
    settlement = Settlement(
        request_id=request,
        attempt=1,
        ended_us=begin + length,
        response_bytes=2000,
        tokens=Tokens(input=300, cached=100, output=120),
        outcome=Outcome.COMPLETED,
        status=200,
    )
    return [intent, settlement]


def main() -> None:
    """Measure and print a table and the RESULT line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=100_000, help="requests in the ledger")
    parser.add_argument("--pods", type=int, default=20, help="replicas, one after another")
    parser.add_argument("--at-once", type=float, default=24, help="requests in flight on a replica, on average")
    parser.add_argument("--consumers", type=int, default=50, help="consumers")
    parser.add_argument("--rounds", type=int, default=3, help="times each report is asked for")
    given = parser.parse_args()
    result: dict[str, float | int] = {"requests": given.requests}
    index = load_prices(None)
    with tempfile.TemporaryDirectory() as folder:
        store = SQLiteStore(Path(folder) / "ledger.sqlite")
        began = time.monotonic()
        end = fill(store, given.requests, given.pods, given.at_once, given.consumers)
        result["fill_s"] = round(time.monotonic() - began, 2)
        middle = START + (end - START) // 2
        periods = {"all": Period(0, end), "hour": Period(middle, middle + 3600 * SECOND)}
        for name in REPORTS:
            for label, period in periods.items():
                wall, processor = [], []
                for _ in range(given.rounds):
                    began, used = time.monotonic(), time.process_time()
                    question = Question("demo", "busy", period, end)
                    answer(store, index, question, compose=REPORTS[name]).model_dump_json(by_alias=True)
                    wall.append(time.monotonic() - began)
                    processor.append(time.process_time() - used)
                result[f"{name}_{label}_p50_s"] = round(statistics.median(wall), 3)
                # Of a report on a machine that does other things meanwhile, this says more.
                result[f"{name}_{label}_cpu_s"] = round(statistics.median(processor), 3)
                print(f"{name:12}{label:6}{statistics.median(wall):8.2f} s", file=sys.stderr)
        store.close()
    print("RESULT " + json.dumps(result))


if __name__ == "__main__":
    main()
