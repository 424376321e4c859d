"""The embedded ledger: one SQLite file in WAL mode, where every commit has reached the disk when it returns."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from fractions import Fraction
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

from zerotide.api.usage import AnyRecord, Intent, Unrecorded
from zerotide.billing.facts import END_RANK, Fact, Kind, decode_identity
from zerotide.billing.ledger import Records, Wake
from zerotide.billing.rating import Period
from zerotide.billing.rollups import Usage, UsageKey
from zerotide.billing.usage import Attempt, Unbilled
from zerotide.exporter import consumers, reading, sums
from zerotide.exporter.counters import TOKENS, of_tokens
from zerotide.exporter.errors import RecordUnfit, StoreDamaged, StoreUnavailable
from zerotide.exporter.holds import Holds
from zerotide.exporter.latefacts import late_facts, note_late
from zerotide.exporter.schema import migrate
from zerotide.exporter.seals import Result, Seals
from zerotide.exporter.sqliteholds import SQLiteHolds
from zerotide.exporter.sqliteseals import SQLiteSeals
from zerotide.exporter.store import (
    DayKey,
    EndpointRecord,
    KeptLine,
    OpenPod,
    Refused,
    Series,
    Settled,
    unrecorded_row,
)
from zerotide.exporter.woken import woken_since

AT_ONCE = 100
"""Facts of one statement: each execution costs as much as binding and writing two of them."""
_POD = Kind.POD
_BARE: dict[str, str] = {kind: kind.value for kind in Kind}
"""Kinds as bare texts: the driver looks for an adapter of values whose type only derives from one it knows."""
_OWN = 4
"""Values that a fact has for itself."""
_STRIDE = _OWN * AT_ONCE


def _adding(number: int) -> str:
    """Return the statement that adds so many facts, told when they were observed and then the values of each."""
    rows = [f"(?{place}, ?{place + 1}, ?{place + 2}, ?{place + 3}, ?1)" for place in range(2, number * _OWN + 2, _OWN)]
    return f"INSERT OR IGNORE INTO fact VALUES {', '.join(rows)}"


_ADD_FACTS = _adding(AT_ONCE)


class SQLiteStore:
    """Keep a ledger in one file; use it from one thread at a time. A second one may read the same file meanwhile."""

    def __init__(self, path: Path, *, busy_timeout_s: float = 5.0) -> None:
        self._path = path
        with self._guarded():
            path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=busy_timeout_s)
            self._db.execute("PRAGMA journal_mode = WAL")
            # NORMAL may roll back committed transactions when power is lost; a bill must not.
            self._db.execute("PRAGMA synchronous = FULL")
            # Pages that are written again and again go from the log to their place in the file once in 16 MB.
            self._db.execute("PRAGMA wal_autocheckpoint = 4000")
            self._db.execute("PRAGMA cache_size = -16000")
            migrate(self._db)
        self.seals: Seals = SQLiteSeals(self._db, self._transaction, self._snapshot, self._add_to_series)
        self.holds: Holds = SQLiteHolds(self._db, self._transaction)

    def add_facts(self, facts: Iterable[Fact], observed_us: int) -> None:
        """Record facts about pods."""
        facts = list(facts)
        with self._transaction():
            by_pod = [(pod, list(mine)) for pod, mine in groupby(facts, itemgetter(0, 1))]
            numbers = self._numbers(dict.fromkeys([pod for pod, _ in by_pod]))
            before = late_facts(self._db, numbers.values())
            # Pods beside each other lie on the same pages of the table.
            by_pod.sort(key=lambda each: numbers[each[0]])
            values: list[int | str] = []
            add = values.extend
            for pod, mine in by_pod:
                number = numbers[pod]
                for _, _, kind, key, t_us in mine:
                    add((number, _BARE[kind], key, t_us))
            for place in range(0, len(values), _STRIDE):
                some = values[place : place + _STRIDE]
                query = _ADD_FACTS if len(some) == _STRIDE else _adding(len(some) // _OWN)
                self._db.execute(query, [observed_us, *some])
            if before:
                note_late(self._db, before, late_facts(self._db, before))
            self._db.executemany(
                "INSERT OR IGNORE INTO pod (cluster, pod_uid, namespace, endpoint, created_us) VALUES (?, ?, ?, ?, ?)",
                [
                    (cluster, uid, *decode_identity(key)[:2], t_us)
                    for cluster, uid, kind, key, t_us in facts
                    if kind == _POD
                ],
            )

    def add_usage(self, records: Sequence[AnyRecord], refused: Sequence[Refused], received_us: int) -> int:
        """Record requests, count the tokens of those that are complete now, and return how many were new."""
        with self._transaction():
            added = [record for record in records if self._add_record(record, received_us)]
            attempts = (each for each in added if not isinstance(each, Unrecorded))
            self._count_tokens({(each.request_id, each.attempt) for each in attempts}, received_us)
            for each in refused:
                digest = hashlib.sha256(each.line).hexdigest()
                row = (digest, each.line, each.error, received_us)
                self._db.execute("INSERT OR IGNORE INTO refused VALUES (?, ?, ?, ?)", row)
        return len(added)

    def add_endpoint(self, endpoint: EndpointRecord) -> None:
        """Record an endpoint and the replicas that it keeps; of several stamps for a floor the earliest stays."""
        with self._transaction():
            self._db.execute(
                "INSERT INTO endpoint VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (uid) DO UPDATE SET"
                " owner = excluded.owner, request_timeout_us = excluded.request_timeout_us,"
                " cold_start = excluded.cold_start, split = excluded.split",
                (*endpoint[:6], endpoint.cold_start, endpoint.split),
            )
            self._db.execute(
                "INSERT INTO floor VALUES (?, ?, ?, ?, ?) ON CONFLICT (endpoint_uid, generation) DO UPDATE SET"
                " from_us = min(from_us, excluded.from_us), clock = excluded.clock",
                (endpoint.uid, endpoint.generation, endpoint.floor, endpoint.floor_from_us, endpoint.clock),
            )

    def add_wake(self, wake: Wake) -> None:
        """Record a finished wake."""
        with self._transaction():
            row = (*wake[:7], json.dumps(wake.stages))
            self._db.execute("INSERT OR IGNORE INTO wake VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)

    def living(self, cluster: str) -> dict[str, frozenset[str]]:
        """Return the pods of which no end is known, with the kinds of facts recorded about each."""
        rows = self._rows(
            "SELECT pod_uid, group_concat(DISTINCT kind) FROM pod JOIN known USING (cluster, pod_uid)"
            " WHERE cluster = ? AND final = 0 GROUP BY pod_uid",
            (cluster,),
        )
        kinds = {pod_uid: frozenset(found.split(",")) for pod_uid, found in rows}
        return {pod_uid: found for pod_uid, found in kinds.items() if not found & END_RANK.keys()}

    def unsettled(self) -> list[OpenPod]:
        """Return the pods whose time is not yet fully counted."""
        query = "SELECT cluster, pod_uid, namespace, endpoint, settled_us FROM pod WHERE final = 0"
        return [OpenPod(*row) for row in self._rows(query)]

    def records(self, namespace: str, endpoint: str, period: Period) -> list[Records]:
        """Return what is known of endpoints (empty: any) that bears on a period."""
        with self._snapshot():
            return reading.records(self._db, namespace, endpoint, period)

    def billable(self, namespace: str, endpoint: str, period: Period) -> list[Records]:
        """Return what of that is enough for the charges of a period."""
        with self._snapshot():
            return reading.billable(self._db, namespace, endpoint, period)

    def woken_since(self, namespace: str, endpoint: str, since_us: int) -> int:
        """Return from when on charges may differ because of what an endpoint's replicas and requests since then say."""
        with self._snapshot():
            return woken_since(self._db, (namespace, endpoint), since_us)

    def unbilled(self, namespace: str, endpoint: str, period: Period) -> list[Unbilled]:
        """Return what endpoints (empty: any) served within a period that nobody could record."""
        with self._snapshot():
            return reading.unbilled(self._db, namespace, endpoint, period)

    def owners(self, namespace: str, endpoint: str) -> dict[tuple[str, str], str]:
        """Return who owns endpoints (empty: any) that are known."""
        with self._snapshot():
            return reading.owners(self._db, namespace, endpoint)

    def usage(self, namespace: str, endpoint: str, period: Period) -> dict[UsageKey, Usage]:
        """Return what consumers used of endpoints (empty: any) within a period, from sums."""
        with self._snapshot():
            return sums.usage(self._db, namespace, endpoint, period)

    def usage_raw(self, namespace: str, endpoint: str, period: Period) -> dict[UsageKey, Usage]:
        """Return the same, from the requests themselves."""
        with self._snapshot():
            return sums.usage_raw(self._db, namespace, endpoint, period)

    def ended(self, period: Period) -> dict[int, int]:
        """Return how many requests ended on each day of UTC within a period of whole days."""
        with self._guarded():
            return sums.ended(self._db, period)

    def delivered(self, period: Period) -> dict[int, int]:
        """Return how many of them count as usage, from sums."""
        with self._guarded():
            return sums.delivered(self._db, period)

    def read_requests(self, period: Period, visit: Callable[[Iterator[Sequence[Any]]], Result]) -> Result:
        """Let a function see the requests that ended within a period, with the records as they came."""
        with self._snapshot():
            return visit(reading.requests(self._db, period))

    def starts(self, namespace: str, endpoint: str, period: Period) -> list[Records]:
        """Return what is known of an endpoint's pods that lived in a period, with the requests begun in it."""
        with self._snapshot():
            return reading.starts(self._db, namespace, endpoint, period)

    def costs(self, namespace: str, endpoint: str, since_us: int) -> dict[DayKey, Fraction]:
        """Return what settled time of endpoints (empty: any) cost, by day, from the day of an instant on."""
        with self._guarded():
            return sums.costs(self._db, namespace, endpoint, since_us)

    def pod_records(self, pods: Sequence[OpenPod], since_us: int) -> list[Records]:
        """Return what is known of these pods by endpoint, with the attempts that were not over at `since_us`."""
        with self._snapshot():
            return reading.pod_records(self._db, pods, since_us)

    def settle(
        self, pods: Sequence[Settled], increments: Mapping[Series, Fraction], costs: Mapping[DayKey, Fraction]
    ) -> bool:
        """Add to counters and costs, and note how far pods are counted, unless one of them was counted meanwhile."""
        where = "cluster = ? AND pod_uid = ? AND settled_us = ? AND final = 0"
        query = f"UPDATE pod SET settled_us = ?, final = ? WHERE {where}"
        rows = [(pod.until_us, int(pod.final), pod.cluster, pod.pod_uid, pod.from_us) for pod in pods]
        with self._transaction():
            if self._db.executemany(query, rows).rowcount != len(rows):
                self._db.execute("ROLLBACK")
                return False
            self._add_to_series(increments)
            sums.add_costs(self._db, costs)
        return True

    def series(self) -> dict[Series, Fraction]:
        """Return the counters, but for those of consumers who have no place any more."""
        rows = self._rows(
            "SELECT name, labels, value FROM series WHERE name <> ? OR json_extract(labels, '$[2]') = ?"
            " OR json_extract(labels, '$[2]') IN (SELECT name FROM consumer)",
            (TOKENS, consumers.OTHER),
        )
        return {(name, tuple(json.loads(labels))): Fraction(value) for name, labels, value in rows}

    def refused(self) -> int:
        """Return how many refused lines are kept."""
        return int(self._rows("SELECT count(*) FROM refused")[0][0])

    def refused_lines(self, after: str, most: int) -> list[KeptLine]:
        """Return refused lines in the order of their digests, from the first one after a digest on."""
        query = "SELECT digest, line FROM refused WHERE digest > ? ORDER BY digest LIMIT ?"
        return [KeptLine(*row) for row in self._rows(query, (after, most))]

    def forget_refused(self, digest: str) -> None:
        """Forget a refused line, whose record is kept by now."""
        with self._transaction():
            self._db.execute("DELETE FROM refused WHERE digest = ?", (digest,))

    def facts(self) -> set[Fact]:
        """Return every fact, for audits."""
        return {Fact(*row) for row in self._rows("SELECT cluster, pod_uid, kind, key, t_us FROM known")}

    def attempts(self) -> list[Attempt]:
        """Return every attempt, for audits."""
        with self._guarded():
            return reading.attempts(self._db, "1 = 1", ())

    def close(self) -> None:
        """Close the file; later calls raise StoreUnavailable."""
        self._db.close()

    def _numbers(self, pods: Collection[tuple[str, str]]) -> dict[tuple[str, str], int]:
        """Return the numbers of pods by cluster and uid, new ones for those that have none."""
        self._db.executemany("INSERT OR IGNORE INTO subject (cluster, pod_uid) VALUES (?, ?)", pods)
        query = (
            "SELECT cluster, pod_uid, number FROM subject WHERE cluster = ?"
            " AND pod_uid IN (SELECT value FROM json_each(?))"
        )
        uids: dict[str, list[str]] = {}
        for cluster, uid in pods:
            uids.setdefault(cluster, []).append(uid)
        rows = (self._db.execute(query, (cluster, json.dumps(mine))) for cluster, mine in uids.items())
        return {(cluster, uid): number for found in rows for cluster, uid, number in found}

    def _add_record(self, record: AnyRecord, received_us: int) -> bool:
        if isinstance(record, Unrecorded):
            lost = (*unrecorded_row(record), received_us)
            return (
                self._db.execute("INSERT OR IGNORE INTO unrecorded VALUES (?, ?, ?, ?, ?, ?, ?, ?)", lost).rowcount == 1
            )
        text, key = record.model_dump_json(by_alias=True), (record.request_id, record.attempt)
        row: tuple[Any, ...]
        if isinstance(record, Intent):
            who = (record.namespace, record.endpoint, record.consumer, record.pod_uid)
            row = (*key, *who, record.cold, record.wake_id, record.forwarded_us, text, received_us, record.adapter)
            query = "INSERT OR IGNORE INTO intent VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
        else:
            tokens = record.tokens
            counts = (tokens.input, tokens.cached, tokens.output) if tokens else (0, 0, 0)
            estimated = tokens is not None and tokens.estimated
            row = (*key, record.ended_us, record.outcome.value, *counts, text, received_us, estimated)
            query = "INSERT OR IGNORE INTO settlement VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
        return self._db.execute(query, row).rowcount == 1

    def _count_tokens(self, fresh: set[tuple[str, int]], now_us: int) -> None:
        """Count the tokens of attempts that are complete since one of their two records came, whichever that was."""
        found = (each for key in fresh for each in reading.attempts(self._db, "request_id = ? AND attempt = ?", key))
        delivered = [attempt for attempt in found if attempt.delivered]
        sums.add(self._db, delivered)
        labels = consumers.labels(self._db, (attempt.consumer for attempt in delivered), now_us)
        self._add_to_series(of_tokens(delivered, labels))

    def _add_to_series(self, increments: Mapping[Series, Fraction]) -> None:
        for (name, labels), increment in increments.items():
            key = (name, json.dumps(labels))
            known = self._db.execute("SELECT value FROM series WHERE name = ? AND labels = ?", key).fetchone()
            value = increment + (Fraction(known[0]) if known else 0)
            self._db.execute("INSERT OR REPLACE INTO series VALUES (?, ?, ?)", (*key, str(value)))

    def _rows(self, query: str, values: tuple[Any, ...] = ()) -> list[Any]:
        with self._guarded():
            return self._db.execute(query, values).fetchall()

    def _snapshot(self) -> AbstractContextManager[None]:
        """Let several reads see one state, whatever another connection writes meanwhile."""
        return self._transaction("BEGIN DEFERRED")

    @contextmanager
    def _transaction(self, begin: str = "BEGIN IMMEDIATE") -> Iterator[None]:
        with self._guarded():
            self._db.execute(begin)
            try:
                yield
                if self._db.in_transaction:
                    self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.OperationalError, sqlite3.ProgrammingError, OSError) as error:
            raise StoreUnavailable(f"{self._path}: {error}: check the volume's space and health") from error
        except (OverflowError, sqlite3.DataError) as error:
            raise RecordUnfit(f"the ledger cannot hold it: {error}") from error
        except sqlite3.DatabaseError as error:
            raise StoreDamaged(f"{self._path}: {error}: restore it from a backup") from error
