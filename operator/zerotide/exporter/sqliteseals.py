"""The seals of a SQLite ledger, within the connection and the transactions of its store."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from fractions import Fraction
from typing import Any

from zerotide.billing.rating import Line, Period
from zerotide.billing.rollups import DAY
from zerotide.billing.sealing import ChargeKey, Link, Posted, Seal, added, charge_of
from zerotide.billing.times import TimeKey, added_times
from zerotide.exporter.errors import SealRefused
from zerotide.exporter.seals import EVER, ROW, SEAL, Counters, Late, Result, Run, exact, links, rows_of, times_of

FIRST = (
    "SELECT min(born) FROM (SELECT min(created_us) AS born FROM pod UNION ALL SELECT min(created_us) FROM endpoint)"
    " AS things"
)
_PLACE = (
    "span_us = ? AND start_us = ? AND namespace = ? AND endpoint = ? AND meter = ? AND class_name = ? AND phase = ?"
)
Begin = Callable[[], AbstractContextManager[None]]


class SQLiteSeals:
    """The seals of a SQLite ledger, within the store's connection and transactions."""

    def __init__(self, db: sqlite3.Connection, writing: Begin, reading: Begin, add: Callable[[Counters], None]) -> None:
        self._db, self._writing, self._reading, self._add_to_series = db, writing, reading, add

    def head(self) -> Seal | None:
        """Return the newest seal."""
        with self._reading():
            return self._head()

    def first_us(self) -> int | None:
        """Return an instant that nothing in the ledger is older than."""
        with self._reading():
            (first,) = self._db.execute(FIRST).fetchone()
        return None if first is None else int(first)

    def claim(self) -> int:
        """Begin a new epoch."""
        with self._writing():
            ((epoch,),) = self._db.execute("UPDATE sealing SET epoch = epoch + 1 RETURNING epoch").fetchall()
        return int(epoch)

    def announce(self, cut_us: int) -> None:
        """Let everything be noted as late from now on that is about time before an instant."""
        with self._writing():
            self._db.execute("UPDATE sealing SET cut_us = max(cut_us, ?)", (cut_us,))

    def late(self) -> list[Late]:
        """Return what has been noted as late and is not accounted for yet."""
        with self._reading():
            return [Late(*row) for row in self._db.execute("SELECT * FROM late ORDER BY 1, 2, 3")]

    def charged(self, namespace: str, endpoint: str, period: Period) -> dict[ChargeKey, Line]:
        """Return what was charged in all for buckets within a period."""
        with self._reading():
            rows = self._select("of_us >= ? AND of_us < ?", period, namespace, endpoint)
            return added(dict([charge_of(row[1:])]) for row in rows)

    def posted(self, namespace: str, endpoint: str, period: Period) -> list[Posted]:
        """Return what is of buckets within a period, or was posted in them, in order."""
        where = "((of_us >= ? AND of_us < ?) OR (bucket_us >= ? AND bucket_us < ?))"
        with self._reading():
            rows = self._select(where, (*period, *period), namespace, endpoint)
            return [Posted(row[0], *charge_of(row[1:])) for row in rows]

    def times(self, namespace: str, endpoint: str, span_us: int, period: Period) -> dict[TimeKey, Fraction]:
        """Return sealed time within a period of whole days or quarters, from their sums."""
        query = (
            "SELECT namespace, endpoint, meter, class_name, phase, quantity FROM time_sum WHERE span_us = ?1"
            " AND start_us >= ?2 AND start_us < ?3 AND (?4 = '' OR namespace = ?4) AND (?5 = '' OR endpoint = ?5)"
        )
        with self._reading():
            rows = self._db.execute(query, (span_us, *period, namespace, endpoint))
            return added_times({TimeKey(*row[:5]): exact(row[5])} for row in rows)

    def book(self, digest: str) -> str | None:
        """Return the text of the prices by its digest."""
        with self._reading():
            found = self._db.execute("SELECT spec FROM book WHERE digest = ?", (digest,)).fetchone()
        return None if found is None else str(found[0])

    def add(self, run: Run) -> bool:
        """Seal, unless somebody else has since `head`."""
        with self._writing():
            if self._head() != run.head:
                return False
            try:
                self._add(run)
            except sqlite3.IntegrityError as error:
                raise SealRefused(f"nothing is sealed: {error}") from error
        return True

    def corrected(self, since_us: int) -> dict[int, int]:
        """Return the days of UTC that were corrected by seals of buckets from an instant on, each with the newest."""
        query = (
            "SELECT of_us / ?1 * ?1, max(bucket_us) FROM charge WHERE bucket_us >= ?2 AND of_us < bucket_us GROUP BY 1"
        )
        with self._reading():
            return dict(self._db.execute(query, (DAY, since_us)))

    def walk(self, visit: Callable[[Iterator[Link]], Result], period: Period = EVER) -> Result:
        """Let a function see every bucket of a period with its seal and its charges as they are stored, in order."""
        within = "WHERE bucket_us >= ? AND bucket_us < ?"
        with self._reading():
            seals = self._db.execute(f"SELECT {SEAL} FROM seal {within} ORDER BY bucket_us, number", period)
            rows = self._db.execute(f"SELECT bucket_us, {ROW} FROM charge {within} ORDER BY bucket_us", period)
            return visit(links((Seal(*row) for row in seals), rows))

    def _head(self) -> Seal | None:
        row = self._db.execute(f"SELECT {SEAL} FROM seal ORDER BY number DESC LIMIT 1").fetchone()
        return Seal(*row) if row else None

    def _select(self, where: str, values: tuple[Any, ...], namespace: str, endpoint: str) -> sqlite3.Cursor:
        names = [(name, value) for name, value in (("namespace", namespace), ("endpoint", endpoint)) if value]
        clauses = " AND ".join([where, *(f"{name} = ?" for name, _ in names)])
        query = f"SELECT bucket_us, {ROW} FROM charge WHERE {clauses} ORDER BY bucket_us, {ROW}"
        return self._db.execute(query, (*values, *(value for _, value in names)))

    def _add(self, run: Run) -> None:
        self._db.execute("INSERT OR IGNORE INTO book VALUES (?, ?)", (run.digest, run.book))
        self._db.executemany("INSERT INTO seal VALUES (?, ?, ?, ?, ?, ?, ?)", [each.seal for each in run.sealed])
        self._db.executemany(
            f"INSERT INTO charge (bucket_us, {ROW}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", rows_of(run)
        )
        self._db.executemany(
            "DELETE FROM late WHERE namespace = ? AND endpoint = ? AND since_us = ? AND number = ?", run.late
        )
        for (span_us, start_us, key), quantity in times_of(run).items():
            place = (span_us, start_us, *key)
            known = self._db.execute(f"SELECT quantity FROM time_sum WHERE {_PLACE}", place).fetchone()
            value = str(quantity + (exact(known[0]) if known else 0))
            self._db.execute("INSERT OR REPLACE INTO time_sum VALUES (?, ?, ?, ?, ?, ?, ?, ?)", (*place, value))
        self._add_to_series(run.counters)
