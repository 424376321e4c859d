"""How many records a ledger takes in a second, each durable, beside what its database and its disk can do."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

import psycopg

from bench.bench_reports import START, attempt
from bench.local import precede
from bench.wire.processes import tree
from zerotide.api.scalars import SECOND
from zerotide.exporter.grouping import GroupCommit
from zerotide.exporter.store import Store
from zerotide.exporter.threads import Threaded
from zerotide.kube.clock import Clock

BLOCK, BLOCKS = 4096, 256


def commits(store: Store, seconds: float) -> float:
    """Return how many records of one request each, every one durable, are taken in a second."""
    precede(tree(os.getpid()))
    began, number = time.monotonic(), 0
    while time.monotonic() - began < seconds:
        intent, _ = attempt(f"commit-{number}", "pod-0", "demo/team-1", "", START, SECOND)
        store.add_usage([intent], [], START)
        number += 1
    return number / (time.monotonic() - began)


def bare_sqlite(path: Path, seconds: float) -> float:
    """Return how many rows with such a record a new SQLite file takes in a second, each made safe, and nothing else."""
    precede(tree(os.getpid()))
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")
    db.execute("CREATE TABLE bare (id TEXT PRIMARY KEY, record TEXT) STRICT")
    text, began, number = _record(), time.monotonic(), 0
    while time.monotonic() - began < seconds:
        db.execute("INSERT INTO bare VALUES (?, ?)", (f"bare-{number}", text))
        number += 1
    took = time.monotonic() - began
    db.close()
    return number / took


def bare_postgres(address: str, seconds: float) -> float:
    """Return the same of a PostgreSQL server: the driver's own loop of a prepared statement."""
    with psycopg.connect(address, autocommit=True) as db:
        precede(tree(os.getpid()))
        db.execute("CREATE TABLE bare (id text PRIMARY KEY, record text)")
        cursor, text, began, number = db.cursor(), _record(), time.monotonic(), 0
        while time.monotonic() - began < seconds:
            cursor.execute("INSERT INTO bare VALUES (%s, %s)", (f"bare-{number}", text), prepare=True)
            number += 1
        took = time.monotonic() - began
        db.execute("DROP TABLE bare")
    return number / took


def _record() -> str:
    intent, _ = attempt("bare", "pod-0", "demo/team-1", "", START, SECOND)
    return intent.model_dump_json(by_alias=True)


def grouped(make: Callable[[], Store], seconds: float, writers: int) -> float:
    """Return how many records are taken in a second of many writers, each of whom waits for its own to be durable."""

    async def measure() -> float:
        opened: Threaded[Store] = await Threaded.open(make, "writer")
        # The server has a process for each connection, in a session of its own.
        precede(tree(os.getpid()))
        group, until, number = GroupCommit(opened, Clock()), time.monotonic() + seconds, 0

        async def write(writer: int) -> None:
            nonlocal number
            mine = 0
            while time.monotonic() < until:
                intent, _ = attempt(f"group-{writer}-{mine}", "pod-0", "demo/team-1", "", START, SECOND)
                await group.add([intent])
                mine += 1
                number += 1

        began = time.monotonic()
        await asyncio.gather(*(write(writer) for writer in range(writers)))
        took = time.monotonic() - began
        await opened.close()
        return number / took

    return asyncio.run(measure())


def fsyncs(folder: Path, seconds: float) -> float:
    """Return how many times in a second the disk takes a block in place of another, and says that it is safe.

    A file that grows has to have its length written, too, which logs of databases avoid by using theirs again.
    """
    with (folder / "blocks").open("wb", buffering=0) as file:
        file.write(bytes(BLOCK * BLOCKS))
        os.fsync(file.fileno())
        began, number = time.monotonic(), 0
        while time.monotonic() - began < seconds:
            os.pwrite(file.fileno(), bytes(BLOCK), number % BLOCKS * BLOCK)
            os.fdatasync(file.fileno())
            number += 1
        return number / (time.monotonic() - began)
