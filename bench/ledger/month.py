"""A month of requests, and reports on it: from sums, from the requests themselves, from the archive."""

from __future__ import annotations

import sqlite3
import statistics
import time
from collections.abc import Callable
from pathlib import Path

from sqlalchemy import create_engine, text

from bench.bench_reports import START
from zerotide.api.scalars import SECOND
from zerotide.billing.archives import REQUESTS, unchained
from zerotide.billing.periods import named_period, zone
from zerotide.billing.rollups import DAY, QUARTER, Usage, UsageKey
from zerotide.billing.sealing import bucket_of, sealed
from zerotide.exporter.archive.archive import Archive
from zerotide.exporter.schema import STEPS
from zerotide.exporter.seals import Run
from zerotide.exporter.sqlite import SQLiteStore
from zerotide.exporter.store import EndpointRecord, Store

MONTH = named_period("2026-10", START, zone("Asia/Kathmandu"))
ENDPOINTS = 50
Tell = Callable[..., None]


def month_of(requests: int, consumers: int, source: str) -> tuple[str, str, str]:
    """Return the statements that write a month of requests and their sums; `source` has the numbers `i` from 0."""
    first, gap = MONTH.start_us, (MONTH.end_us - MONTH.start_us - 2 * SECOND) // requests
    # Multiplicative hashing spreads consumers, ends and tokens without a table of random numbers.
    return (
        f"INSERT INTO intent SELECT 'm' || i, 1, 'demo', 'endpoint-' || (i * 7919 % {ENDPOINTS}),"
        f" 'demo/team-' || (i * 104729 % {consumers}), 'month', 0, '', {first} + i * {gap}, '', 0, '' FROM {source}",
        f"INSERT INTO settlement SELECT 'm' || i, 1, {first} + i * {gap} + 1000000 + i % 9000,"
        f" CASE i % 97 WHEN 0 THEN 'lost' ELSE 'completed' END, 100 + i % 400, i % 100, 50 + i % 200, '', 0,"
        f" CAST(i % 89 = 0 AS integer) FROM {source}",
        STEPS[4][STEPS[4].index("INSERT INTO usage_sum") :],
    )


def fill(path: Path, requests: int, consumers: int) -> None:
    """Write a month of requests straight into the tables, and their sums as a migration does."""
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("PRAGMA synchronous = OFF")
    db.execute("BEGIN")
    series = f"WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < {requests - 1})"
    intents, settlements, sums = month_of(requests, consumers, "n")
    for statement in (f"{series} {intents}", f"{series} {settlements}", "DELETE FROM usage_sum", sums):
        db.execute(statement)
    db.execute("COMMIT")
    db.close()


def fill_postgres(address: str, requests: int, consumers: int) -> None:
    """Write the same month into a database, in place of what requests it has."""
    source = f"generate_series(CAST(0 AS bigint), {requests - 1}) AS n (i)"
    engine = create_engine(f"postgresql+psycopg://{address.partition('://')[2]}")
    with engine.begin() as db:
        db.execute(text("SET LOCAL synchronous_commit = off"))
        db.execute(text("TRUNCATE intent, settlement, usage_sum"))
        for statement in (*month_of(requests, consumers, source), "ANALYZE intent, settlement, usage_sum"):
            db.execute(text(statement))
    engine.dispose()


def reports(store: Store, suffix: str, tell: Tell) -> tuple[dict[UsageKey, Usage], int]:
    """Measure the reports of the month; return what they say, and in how many lines the two differ."""
    tell(f"report_rollup{suffix and '_' + suffix}_s", timed(lambda: store.usage("", "", MONTH), 5))
    tell(f"report_rows_{suffix or 'sqlite'}_s", timed(lambda: store.usage_raw("", "", MONTH), 1))
    summed, raw = store.usage("", "", MONTH), store.usage_raw("", "", MONTH)
    return summed, sum(summed.get(key) != raw.get(key) for key in {*summed, *raw}) + (not summed)


def archived(store: SQLiteStore, folder: Path, tell: Tell) -> dict[UsageKey, Usage]:
    """Archive the month, measure the report from it; return what it says."""
    store.add_endpoint(EndpointRecord("e", "demo", "endpoint-0", MONTH.start_us, "demo/owner", SECOND, 1, 0, START))
    head, low, high = None, bucket_of(MONTH.start_us) // DAY * DAY, MONTH.end_us + 2 * DAY
    seals = sealed(head, range(low, high, QUARTER), {}, sealed_us=high, epoch=store.seals.claim(), book="bench")
    assert store.seals.add(Run(head, seals, [], "bench", "{}", {}))
    archive, began = Archive(folder), time.monotonic()
    days = archive.write_due(store, high, most=100)
    tell("archive_write_s", time.monotonic() - began)
    tell("archive_bytes_per_request", sum(each.stat().st_size for each in folder.rglob("*.parquet")) / rows_of(archive))
    tell("report_raw_s", timed(lambda: archive.usage(store, "", "", MONTH), 3))
    assert days >= 31 and not list(unchained(archive.folder.kept()))
    return archive.usage(store, "", "", MONTH)


def rows_of(archive: Archive) -> int:
    """Return how many requests are archived."""
    return sum(file.rows for each in archive.folder.kept() for file in each.manifest.files if file.table == REQUESTS)


def timed(call: Callable[[], object], rounds: int) -> float:
    """Return the median of the seconds that a call takes."""
    took = []
    for _ in range(rounds):
        began = time.monotonic()
        call()
        took.append(time.monotonic() - began)
    return statistics.median(took)
