"""The ledger in PostgreSQL: for installations that have one, and for more than one exporter at a time.

Facts, requests, wakes and endpoints are sets, so two writers cannot harm each other. Sums and counters are added to
under one lock that ends with the transaction; pods move on only from where their increments begin, as in the SQLite
ledger. Segments of pods that are over are kept for whoever reads the database; the fold does not need them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from fractions import Fraction
from functools import partial
from typing import Any

import psycopg
from sqlalchemy import Connection, create_engine, text
from sqlalchemy.exc import DBAPIError

from zerotide.api.usage import AnyRecord
from zerotide.billing.facts import END_RANK, Fact, Kind, decode_identity
from zerotide.billing.ledger import Records, Wake
from zerotide.billing.rating import Period
from zerotide.billing.rollups import Usage, UsageKey
from zerotide.billing.usage import Attempt, Unbilled
from zerotide.exporter import pgreading
from zerotide.exporter.consumers import OTHER
from zerotide.exporter.counters import TOKENS, of_tokens
from zerotide.exporter.errors import RecordUnfit, StoreDamaged, StoreUnavailable
from zerotide.exporter.holds import Holds
from zerotide.exporter.pgholds import PostgresHolds
from zerotide.exporter.pgmessage import commit
from zerotide.exporter.pgschema import LOCK, migrate
from zerotide.exporter.pgseals import PostgresSeals
from zerotide.exporter.pgwoken import woken_since
from zerotide.exporter.pgwriting import (
    add_costs,
    add_records,
    add_segments,
    add_sums,
    add_to_series,
    add_unrecorded,
    array,
    driver_of,
    label,
    move,
)
from zerotide.exporter.seals import Result, Seals
from zerotide.exporter.store import DayKey, EndpointRecord, KeptLine, OpenPod, Refused, Series, Settled

_LOCK = text(f"SELECT pg_advisory_xact_lock({LOCK})")


class PostgresStore:
    """Keep a ledger in a PostgreSQL database; use it from one thread at a time."""

    def __init__(self, url: str) -> None:
        # The driver is ours to choose; people write the address as psql takes it.
        scheme, _, rest = url.partition("://")
        self._engine = create_engine(f"postgresql+psycopg://{rest}", pool_size=2)
        self._db: Connection | None = None
        """The connection that writes: to take it out of the pool each time costs as long as a way to the server."""
        self._where = f"{scheme}://{rest.rpartition('@')[2]}"
        try:
            with self._guarded():
                migrate(self._engine)
        except BaseException:
            self._engine.dispose()
            raise
        self.seals: Seals = PostgresSeals(partial(self._transaction, locked=True), self._snapshot)
        self.holds: Holds = PostgresHolds(partial(self._transaction, locked=True))

    def add_facts(self, facts: Iterable[Fact], observed_us: int) -> None:
        """Record facts about pods."""
        facts = sorted(set(facts))
        pods = [fact for fact in facts if fact.kind == Kind.POD]
        names = [decode_identity(fact.key) for fact in pods]
        with self._transaction() as db:
            db.execute(
                text(
                    "INSERT INTO fact SELECT *, :now FROM unnest(CAST(:clusters AS text[]), CAST(:uids AS uuid[]),"
                    " CAST(:kinds AS text[]), CAST(:keys AS text[]), CAST(:times AS bigint[])) ON CONFLICT DO NOTHING"
                ),
                {
                    "now": observed_us,
                    "clusters": array(fact.cluster for fact in facts),
                    "uids": array(fact.pod_uid for fact in facts),
                    "kinds": array(fact.kind for fact in facts),
                    "keys": array(fact.key for fact in facts),
                    "times": array(fact.t_us for fact in facts),
                },
            )
            db.execute(
                text(
                    "INSERT INTO pod (cluster, pod_uid, namespace, endpoint, created_us)"
                    " SELECT * FROM unnest(CAST(:clusters AS text[]), CAST(:uids AS uuid[]),"
                    " CAST(:namespaces AS text[]), CAST(:endpoints AS text[]), CAST(:times AS bigint[]))"
                    " ON CONFLICT DO NOTHING"
                ),
                {
                    "clusters": array(fact.cluster for fact in pods),
                    "uids": array(fact.pod_uid for fact in pods),
                    "namespaces": array(name.namespace for name in names),
                    "endpoints": array(name.endpoint for name in names),
                    "times": array(fact.t_us for fact in pods),
                },
            )

    def add_usage(self, records: Sequence[AnyRecord], refused: Sequence[Refused], received_us: int) -> int:
        """Record requests, count the tokens of those that are complete now, and return how many were new."""
        with self._transaction() as db:
            added = add_records(db, records, received_us)
            self._count(db, added.complete, received_us)
            for each in refused:
                row = {"d": hashlib.sha256(each.line).hexdigest(), "l": each.line, "e": each.error, "r": received_us}
                db.execute(text("INSERT INTO refused VALUES (:d, :l, :e, :r) ON CONFLICT DO NOTHING"), row)
            lost = add_unrecorded(db, records, received_us)
            commit(driver_of(db))
        return added.number + lost

    def add_endpoint(self, endpoint: EndpointRecord) -> None:
        """Record an endpoint and the replicas that it keeps; of several stamps for a floor the earliest stays."""
        with self._transaction() as db:
            db.execute(
                text(
                    "INSERT INTO endpoint VALUES (:uid, :namespace, :name, :created_us, :owner, :request_timeout_us,"
                    " :cold_start, :split) ON CONFLICT (uid) DO UPDATE SET owner = excluded.owner,"
                    " request_timeout_us = excluded.request_timeout_us, cold_start = excluded.cold_start,"
                    " split = excluded.split"
                ),
                endpoint._asdict(),
            )
            db.execute(
                text(
                    "INSERT INTO floor VALUES (:uid, :generation, :floor, :floor_from_us, :clock)"
                    " ON CONFLICT (endpoint_uid, generation) DO UPDATE SET"
                    " from_us = least(floor.from_us, excluded.from_us), clock = excluded.clock"
                ),
                endpoint._asdict(),
            )

    def add_wake(self, wake: Wake) -> None:
        """Record a finished wake."""
        row = {**wake._asdict(), "stages": json.dumps(wake.stages)}
        with self._transaction() as db:
            db.execute(
                text(
                    "INSERT INTO wake VALUES (:endpoint_uid, :wake_id, :namespace, :endpoint, :time_us, :cause,"
                    " :total_us, :stages) ON CONFLICT DO NOTHING"
                ),
                row,
            )

    def living(self, cluster: str) -> dict[str, frozenset[str]]:
        """Return the pods of which no end is known, with the kinds of facts recorded about each."""
        query = (
            "SELECT pod_uid::text, array_agg(DISTINCT kind) FROM pod JOIN fact USING (cluster, pod_uid)"
            " WHERE cluster = :cluster AND NOT final GROUP BY pod_uid"
        )
        with self._transaction() as db:
            kinds = {row[0]: frozenset(row[1]) for row in db.execute(text(query), {"cluster": cluster})}
        return {pod_uid: found for pod_uid, found in kinds.items() if not found & END_RANK.keys()}

    def unsettled(self) -> list[OpenPod]:
        """Return the pods whose time is not yet fully counted."""
        query = "SELECT cluster, pod_uid::text, namespace, endpoint, settled_us FROM pod WHERE NOT final"
        with self._transaction() as db:
            return [OpenPod(*row) for row in db.execute(text(query))]

    def records(self, namespace: str, endpoint: str, period: Period) -> list[Records]:
        """Return what is known of endpoints (empty: any) that bears on a period."""
        with self._snapshot() as db:
            return pgreading.records(db, namespace, endpoint, period)

    def billable(self, namespace: str, endpoint: str, period: Period) -> list[Records]:
        """Return what of that is enough for the charges of a period."""
        with self._snapshot() as db:
            return pgreading.billable(db, namespace, endpoint, period)

    def woken_since(self, namespace: str, endpoint: str, since_us: int) -> int:
        """Return from when on charges may differ because of what an endpoint's replicas and requests since then say."""
        with self._snapshot() as db:
            return woken_since(db, (namespace, endpoint), since_us)

    def unbilled(self, namespace: str, endpoint: str, period: Period) -> list[Unbilled]:
        """Return what endpoints (empty: any) served within a period that nobody could record."""
        with self._snapshot() as db:
            return pgreading.unbilled(db, namespace, endpoint, period)

    def owners(self, namespace: str, endpoint: str) -> dict[tuple[str, str], str]:
        """Return who owns endpoints (empty: any) that are known."""
        with self._snapshot() as db:
            return pgreading.owners(db, namespace, endpoint)

    def usage(self, namespace: str, endpoint: str, period: Period) -> dict[UsageKey, Usage]:
        """Return what consumers used of endpoints (empty: any) within a period, from sums."""
        with self._snapshot() as db:
            return pgreading.usage(db, namespace, endpoint, period)

    def usage_raw(self, namespace: str, endpoint: str, period: Period) -> dict[UsageKey, Usage]:
        """Return the same, from the requests themselves."""
        with self._snapshot() as db:
            return pgreading.usage_raw(db, namespace, endpoint, period)

    def ended(self, period: Period) -> dict[int, int]:
        """Return how many requests ended on each day of UTC within a period of whole days."""
        with self._snapshot() as db:
            return pgreading.ended(db, period)

    def delivered(self, period: Period) -> dict[int, int]:
        """Return how many of them count as usage, from sums."""
        with self._snapshot() as db:
            return pgreading.delivered(db, period)

    def read_requests(self, period: Period, visit: Callable[[Iterator[Sequence[Any]]], Result]) -> Result:
        """Let a function see the requests that ended within a period, with the records as they came."""
        with self._snapshot() as db:
            return visit(pgreading.requests(db, period))

    def starts(self, namespace: str, endpoint: str, period: Period) -> list[Records]:
        """Return what is known of an endpoint's pods that lived in a period, with the requests begun in it."""
        with self._snapshot() as db:
            return pgreading.starts(db, namespace, endpoint, period)

    def costs(self, namespace: str, endpoint: str, since_us: int) -> dict[DayKey, Fraction]:
        """Return what settled time of endpoints (empty: any) cost, by day, from the day of an instant on."""
        with self._snapshot() as db:
            return pgreading.costs(db, namespace, endpoint, since_us)

    def pod_records(self, pods: Sequence[OpenPod], since_us: int) -> list[Records]:
        """Return what is known of these pods by endpoint, with the attempts that were not over at `since_us`."""
        with self._snapshot() as db:
            return pgreading.pod_records(db, pods, since_us)

    def settle(
        self, pods: Sequence[Settled], increments: Mapping[Series, Fraction], costs: Mapping[DayKey, Fraction]
    ) -> bool:
        """Add to counters and costs, and note how far pods are counted, unless one of them was counted meanwhile."""
        with self._transaction(locked=True) as db:
            if not move(db, pods):
                db.rollback()
                return False
            add_segments(db, pods)
            add_to_series(db, increments)
            add_costs(db, costs)
        return True

    def series(self) -> dict[Series, Fraction]:
        """Return the counters, but for those of consumers who have no place any more."""
        query = (
            "SELECT name, labels, value FROM series WHERE name <> :tokens OR labels::json ->> 2 = :other"
            " OR labels::json ->> 2 IN (SELECT name FROM consumer)"
        )
        with self._transaction() as db:
            rows = db.execute(text(query), {"tokens": TOKENS, "other": OTHER})
            return {(row[0], tuple(json.loads(row[1]))): Fraction(row[2]) for row in rows}

    def refused(self) -> int:
        """Return how many refused lines are kept."""
        with self._transaction() as db:
            return int(db.execute(text("SELECT count(*) FROM refused")).scalar_one())

    def refused_lines(self, after: str, most: int) -> list[KeptLine]:
        """Return refused lines in the order of their digests, from the first one after a digest on."""
        by = 'digest COLLATE "C"'
        query = f"SELECT digest, line FROM refused WHERE {by} > :after ORDER BY {by} LIMIT :most"
        with self._transaction() as db:
            rows = db.execute(text(query), {"after": after, "most": most})
            return [KeptLine(row[0], bytes(row[1])) for row in rows]

    def forget_refused(self, digest: str) -> None:
        """Forget a refused line, whose record is kept by now."""
        with self._transaction() as db:
            db.execute(text("DELETE FROM refused WHERE digest = :digest"), {"digest": digest})

    def facts(self) -> set[Fact]:
        """Return every fact, for audits."""
        with self._transaction() as db:
            rows = db.execute(text("SELECT cluster, pod_uid::text, kind, key, t_us FROM fact"))
            return {Fact(*row) for row in rows}

    def attempts(self) -> list[Attempt]:
        """Return every attempt, for audits."""
        with self._transaction() as db:
            return pgreading.attempts(db, "true", {})

    def close(self) -> None:
        """Close the connections."""
        self._leave()
        self._engine.dispose()

    def _count(self, db: Connection, complete: Iterable[Attempt], now_us: int) -> None:
        """Count the attempts that are complete since one of their two records came, whichever that was."""
        delivered = [attempt for attempt in complete if attempt.delivered]
        if not delivered:
            return
        add_sums(db, delivered)
        labels = {name: label(db, name, now_us) for name in sorted({attempt.consumer for attempt in delivered})}
        add_to_series(db, of_tokens(delivered, labels))

    @contextmanager
    def _transaction(self, *, locked: bool = False) -> Iterator[Connection]:
        with self._guarded():
            self._db = db = self._db or self._engine.connect()
            try:
                with db.begin():
                    if locked:
                        db.execute(_LOCK)
                    yield db
            except BaseException:
                # Of what goes past it, SQLAlchemy does not see that the connection broke.
                if not db.invalidated and driver_of(db).closed:
                    db.invalidate()
                self._leave()
                raise

    def _leave(self) -> None:
        """Give the connection back that writes, if there is one: the next transaction takes one that is whole."""
        db, self._db = self._db, None
        if db is not None:
            db.close()

    @contextmanager
    def _snapshot(self) -> Iterator[Connection]:
        """Let several reads see one state, whatever another connection writes meanwhile."""
        with self._guarded(), self._engine.connect() as db:
            db = db.execution_options(isolation_level="REPEATABLE READ")
            with db.begin():
                yield db

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        try:
            yield
        except (DBAPIError, psycopg.Error) as error:
            told = error.orig if isinstance(error, DBAPIError) else error
            if isinstance(told, psycopg.OperationalError | psycopg.InterfaceError):
                raise StoreUnavailable(f"{self._where}: {told}: check that the database is up") from error
            if isinstance(told, psycopg.DataError):
                raise RecordUnfit(f"the ledger cannot hold it: {told}") from error
            if isinstance(told, psycopg.IntegrityError):
                raise StoreDamaged(f"{self._where}: {told}: two segments of a pod overlap, which none may") from error
            raise StoreDamaged(f"{self._where}: {told}: is it a ledger of this version?") from error
