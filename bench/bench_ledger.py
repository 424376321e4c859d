"""How fast the ledger takes facts and requests in, and how fast it answers: `make bench-ledger`.

Folding: pods of about ten facts each are written, read back and folded into segments, and each is compared with an
oracle that knows the lives it invented and shares no code with the fold. Commits: one record each, every one on the
disk, one after the other and of many writers at once, beside how often in a second that disk takes a block and says
that it is safe, and how many bare rows its database takes. Reports: a month of requests of many consumers, by
consumer, in a zone whose months are not those of UTC, from sums, from the requests themselves in both ledgers, and from
the archive (`report_raw_s`); all must be equal.
Splitting: many requests in flight on one replica.
It needs no cluster and no network. The disk is that of $TMPDIR.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from bench.bench_reports import START
from bench.ledger.commits import bare_postgres, bare_sqlite, commits, fsyncs, grouped
from bench.ledger.month import ENDPOINTS, Tell, archived, fill, fill_postgres, reports, timed
from bench.local import precede, prepare_process
from bench.wire.processes import tree
from tests.exporter.pgserver import serving
from zerotide.api.scalars import HOUR, SECOND
from zerotide.billing.facts import SOURCE_SPEC, Accelerator, Allocation, Fact, Identity, Kind, encode
from zerotide.billing.fold import Phase, fold
from zerotide.billing.ledger import folded
from zerotide.billing.rating import Period
from zerotide.billing.rollups import DAY, Usage, UsageKey
from zerotide.billing.spans import Span
from zerotide.billing.split import apportion, split_active
from zerotide.exporter.postgres import PostgresStore
from zerotide.exporter.pricefile import load_prices
from zerotide.exporter.questions import Question, answer_verify
from zerotide.exporter.sqlite import SQLiteStore
from zerotide.exporter.store import OpenPod, Settled, Store
from zerotide.kube import process

BATCH = 500
Life = dict[Phase, int]


def pods(number: int, chance: random.Random) -> Iterator[tuple[list[Fact], Life]]:
    """Yield the facts of each pod, and how long it truly was in each phase."""
    for place in range(number):
        uid = f"{chance.getrandbits(32):08x}-0000-4000-8000-{place:012x}"
        born = START + chance.randrange(30 * 24 * 3600) * SECOND
        queued, pull, load, idle, drain = (chance.randrange(1, 600) * SECOND for _ in range(5))
        scheduled = born + queued
        started, ready = scheduled + pull, scheduled + pull + load
        ending = ready + idle
        name = encode(Identity("demo", f"endpoint-{place % ENDPOINTS}", f"pod-{place}"))
        device = encode(Accelerator(SOURCE_SPEC, "nvidia-h100-80gb"))
        stamps = (
            (Kind.POD, name, born),
            (Kind.ALLOCATION, encode(Allocation("nvidia.com/gpu", 1)), born),
            (Kind.ACCELERATOR, device, scheduled),
            (Kind.CREATED, "", born),
            (Kind.SCHEDULED, "node-1", scheduled),
            (Kind.STARTED, "model", started),
            (Kind.READY, "", ready),
            (Kind.READY, "", ready + SECOND),
            (Kind.DELETE, "", ending),
            (Kind.FINISHED, "", ending + drain),
        )
        truth = {
            Phase.QUEUED: queued,
            Phase.PROVISIONING: pull,
            Phase.LOADING: load,
            Phase.COOLDOWN: idle,
            Phase.DRAINING: drain,
        }
        yield [Fact("bench", uid, kind, key, at) for kind, key, at in stamps], truth


def fold_all(store: Store, lives: list[tuple[list[Fact], Life]]) -> tuple[float, int]:
    """Return the seconds to write every pod's facts and fold what is read back, and the microseconds of error."""
    precede(tree(os.getpid()))
    began = time.monotonic()
    for place in range(0, len(lives), BATCH):
        facts = [fact for facts, _ in lives[place : place + BATCH] for fact in facts]
        store.add_facts(facts, START)
    ever, error, spent = Period(0, START + 100 * DAY), 0, dict[str, Life]()
    ledgers = [folded(records, ever.end_us) for records in store.records("", "", ever)]
    seconds = time.monotonic() - began
    for life in (life for ledger in ledgers for life in ledger.lifetimes):
        mine = spent.setdefault(life.pod_uid, dict.fromkeys(Phase, 0))
        for segment in life.segments:
            mine[segment.phase] += segment.length_us
    for facts, truth in lives:
        found = spent.get(facts[0].pod_uid, {})
        error += sum(abs(found.get(phase, 0) - truth.get(phase, 0)) for phase in Phase)
    return seconds, error


def refold(lives: list[tuple[list[Fact], Life]]) -> float:
    """Return the seconds to fold every pod's facts alone."""
    began = time.monotonic()
    for facts, _ in lives:
        fold(facts, as_of_us=START + 100 * DAY)
    return time.monotonic() - began


def split_many(requests: int, at_once: int) -> tuple[float, int]:
    """Return the processor seconds to split requests exactly, hour by hour, and the microseconds of error."""
    chance, error, used = random.Random(7), 0, 0.0
    each = 200_000
    for _ in range(-(-requests // each)):
        gap = HOUR // each
        flights = []
        for place in range(each):
            low = START + place * gap
            length = max(round(chance.expovariate(1 / (gap * at_once))), 1)
            flights.append((chance.randrange(50), Span(low, min(low + length, START + HOUR))))
        began = time.process_time()
        shares = apportion(split_active(flights, START, START + HOUR))
        used += time.process_time() - began
        reach, covered = START, 0
        for _, (low, high) in flights:
            covered += max(high - max(low, reach), 0)
            reach = max(reach, high)
        error += abs(sum(shares.values()) - covered)
    return used, error


def postgres(
    lives: list[tuple[list[Fact], Life]], folder: Path, given: argparse.Namespace, tell: Tell
) -> tuple[dict[UsageKey, Usage], int]:
    """Measure a ledger in PostgreSQL, its constraint against overlaps included; return the month, and the error."""
    with serving() as address:
        store = PostgresStore(address)
        took, error = fold_all(store, lives)
        began = time.monotonic()
        ever = START + 100 * DAY
        for records in store.records("", "", Period(0, ever)):
            folded_ = folded(records, ever).lifetimes
            store.settle([Settled("bench", life.pod_uid, 0, ever, True, life.segments) for life in folded_], {}, {})
        tell("fold_10k_postgres_s", took)
        tell("settle_10k_postgres_s", time.monotonic() - began)
        tell("fsyncs_per_s_postgres", fsyncs(folder, given.seconds), 0)
        tell("bare_per_s_postgres", bare_postgres(address, given.seconds), 0)
        tell("commits_per_s_postgres", commits(store, given.seconds), 0)
        tell("grouped_per_s_postgres", grouped(lambda: PostgresStore(address), given.seconds, given.writers), 0)
        fill_postgres(address, given.requests, given.consumers)
        month, wrong = reports(store, "postgres", tell)
        store.close()
    return month, error + wrong


def main() -> None:
    """Measure and print the RESULT line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pods", type=int, default=10_000, help="pods that are written and folded")
    parser.add_argument("--requests", type=int, default=1_000_000, help="requests of the month that is reported")
    parser.add_argument("--split", type=int, default=1_000_000, help="requests that are split")
    parser.add_argument("--consumers", type=int, default=20, help="consumers of the month")
    parser.add_argument("--writers", type=int, default=32, help="writers at once, each with a record of its own")
    parser.add_argument("--seconds", type=float, default=5, help="seconds of commits")
    given = parser.parse_args()
    prepare_process()
    result: dict[str, float | int] = {"pods": given.pods, "requests": given.requests, "split": given.split}
    lives = list(pods(given.pods, random.Random(1)))
    process.settle_memory()  # as the exporter does once it has started

    def tell(name: str, value: float | int, digits: int = 3) -> None:
        result[name] = round(value, digits)
        print(f"{name:24}{value:14.3f}", file=sys.stderr, flush=True)

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pods.sqlite"
        store = SQLiteStore(path)
        seconds, error = fold_all(store, lives)
        tell("fold_10k_sqlite_s", seconds)
        tell("fold_alone_s", refold(lives))
        everything = Question("", "", Period(0, START + 100 * DAY), START + 100 * DAY)
        tell("verify_s", timed(lambda: answer_verify(store, load_prices(None), everything), 1))
        tell("bytes_per_pod", sum(each.stat().st_size for each in Path(folder).iterdir()) // given.pods)
        tell("fsyncs_per_s", fsyncs(Path(folder), given.seconds), 0)
        tell("bare_per_s_sqlite", bare_sqlite(Path(folder) / "bare.sqlite", given.seconds), 0)
        tell("commits_per_s_sqlite", commits(store, given.seconds), 0)
        assert len(store.unsettled()) == given.pods and isinstance(store.unsettled()[0], OpenPod)
        store.close()
        tell("grouped_per_s_sqlite", grouped(lambda: SQLiteStore(path), given.seconds, given.writers), 0)
        theirs, wrong = postgres(lives, Path(folder), given, tell)
        error += wrong
        month_path = Path(folder) / "month.sqlite"
        store = SQLiteStore(month_path)
        fill(month_path, given.requests, given.consumers)
        month, wrong = reports(store, "", tell)
        error += wrong + (month != theirs) + (month != archived(store, Path(folder) / "archive", tell))
        store.close()
    seconds, wrong = split_many(given.split, 24)
    tell("split_10m_s", seconds * 10_000_000 / given.split)
    tell("error", error + wrong)
    print("RESULT " + json.dumps(result))


if __name__ == "__main__":
    main()
