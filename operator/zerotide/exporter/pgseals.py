"""The seals of a PostgreSQL ledger, within the transactions of its store."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from fractions import Fraction
from typing import Any

from sqlalchemy import Connection, CursorResult, text
from sqlalchemy.exc import DBAPIError

from zerotide.billing.rating import Line, Period
from zerotide.billing.rollups import DAY
from zerotide.billing.sealing import ChargeKey, Link, Posted, Seal, added, charge_of
from zerotide.billing.times import TimeKey, added_times
from zerotide.exporter.errors import SealRefused
from zerotide.exporter.pgwriting import add_to_series
from zerotide.exporter.seals import EVER, ROW, SEAL, Late, Result, Run, exact, links, rows_of, times_of
from zerotide.exporter.sqliteseals import FIRST

Begin = Callable[[], AbstractContextManager[Connection]]
_COLUMNS = f"bucket_us, {ROW}"
_TYPES = ["bigint", "bigint", "text", "text", "text", "text", "text", "text", "text", "text", "text", "text", "text"]
_NAMES = "(:namespace = '' OR namespace = :namespace) AND (:endpoint = '' OR endpoint = :endpoint)"
_SUM = text(
    "SELECT quantity FROM time_sum WHERE span_us = :span AND start_us = :start AND namespace = :namespace"
    " AND endpoint = :endpoint AND meter = :meter AND class_name = :class_name AND phase = :phase"
)
_SUMMED = text(
    "INSERT INTO time_sum VALUES (:span, :start, :namespace, :endpoint, :meter, :class_name, :phase, :quantity)"
    " ON CONFLICT (span_us, start_us, namespace, endpoint, meter, class_name, phase)"
    " DO UPDATE SET quantity = excluded.quantity"
)
FENCED = "ZT002"
"""The code of the error that an epoch is over."""


class PostgresSeals:
    """The seals of a ledger; `writing` begins a transaction under the lock of all who add to counters."""

    def __init__(self, writing: Begin, reading: Begin) -> None:
        self._writing, self._reading = writing, reading

    def head(self) -> Seal | None:
        """Return the newest seal."""
        with self._reading() as db:
            return _head(db)

    def first_us(self) -> int | None:
        """Return an instant that nothing in the ledger is older than."""
        with self._reading() as db:
            first = db.execute(text(FIRST)).scalar()
        return None if first is None else int(first)

    def claim(self) -> int:
        """Begin a new epoch."""
        with self._writing() as db:
            return int(db.execute(text("UPDATE sealing SET epoch = epoch + 1 RETURNING epoch")).scalar_one())

    def announce(self, cut_us: int) -> None:
        """Let everything be noted as late from now on that is about time before an instant."""
        with self._writing() as db:
            db.execute(text("LOCK TABLE fact, pod, intent, settlement, endpoint, floor, wake IN SHARE MODE"))
            db.execute(text("UPDATE sealing SET cut_us = greatest(cut_us, :cut)"), {"cut": cut_us})

    def late(self) -> list[Late]:
        """Return what has been noted as late and is not accounted for yet."""
        with self._reading() as db:
            rows = db.execute(text("SELECT namespace, endpoint, since_us, number FROM late ORDER BY 1, 2, 3"))
            return [Late(*row) for row in rows]

    def charged(self, namespace: str, endpoint: str, period: Period) -> dict[ChargeKey, Line]:
        """Return what was charged in all for buckets within a period."""
        with self._reading() as db:
            rows = _select(db, "of_us >= :low AND of_us < :high", namespace, endpoint, period)
            return added(dict([charge_of(row[1:])]) for row in rows)

    def posted(self, namespace: str, endpoint: str, period: Period) -> list[Posted]:
        """Return what is of buckets within a period, or was posted in them, in order."""
        where = "((of_us >= :low AND of_us < :high) OR (bucket_us >= :low AND bucket_us < :high))"
        with self._reading() as db:
            rows = _select(db, where, namespace, endpoint, period)
            return [Posted(row[0], *charge_of(row[1:])) for row in rows]

    def times(self, namespace: str, endpoint: str, span_us: int, period: Period) -> dict[TimeKey, Fraction]:
        """Return sealed time within a period of whole days or quarters, from their sums."""
        query = (
            "SELECT namespace, endpoint, meter, class_name, phase, quantity FROM time_sum WHERE span_us = :span"
            f" AND start_us >= :low AND start_us < :high AND {_NAMES}"
        )
        values = {"span": span_us, "low": period.start_us, "high": period.end_us}
        with self._reading() as db:
            rows = db.execute(text(query), {**values, "namespace": namespace, "endpoint": endpoint})
            return added_times({TimeKey(*row[:5]): exact(row[5])} for row in rows)

    def book(self, digest: str) -> str | None:
        """Return the text of the prices by its digest."""
        with self._reading() as db:
            found = db.execute(text("SELECT spec FROM book WHERE digest = :digest"), {"digest": digest}).scalar()
        return None if found is None else str(found)

    def add(self, run: Run) -> bool:
        """Seal, unless somebody else has since `head`."""
        with self._writing() as db, _refusals():
            if _head(db) != run.head:
                return False
            _add(db, run)
        return True

    def corrected(self, since_us: int) -> dict[int, int]:
        """Return the days of UTC that were corrected by seals of buckets from an instant on, each with the newest."""
        query = (
            f"SELECT of_us / {DAY} * {DAY}, max(bucket_us) FROM charge WHERE bucket_us >= :since AND of_us < bucket_us"
            " GROUP BY 1"
        )
        with self._reading() as db:
            return {row[0]: row[1] for row in db.execute(text(query), {"since": since_us})}

    def walk(self, visit: Callable[[Iterator[Link]], Result], period: Period = EVER) -> Result:
        """Let a function see every bucket of a period with its seal and its charges as they are stored, in order."""
        within = f"WHERE bucket_us >= {period.start_us} AND bucket_us < {period.end_us}"
        with self._reading() as db:
            seals = db.execute(text(f"SELECT {SEAL} FROM seal {within} ORDER BY bucket_us, number"))
            # Millions of rows are not to be had at once: the server keeps them, and gives them by the thousand.
            rows = db.execution_options(yield_per=1000).execute(
                text(f"SELECT {_COLUMNS} FROM charge {within} ORDER BY bucket_us")
            )
            return visit(links([Seal(*row) for row in seals], rows))


def _head(db: Connection) -> Seal | None:
    row = db.execute(text(f"SELECT {SEAL} FROM seal ORDER BY number DESC LIMIT 1")).first()
    return Seal(*row) if row else None


def _select(db: Connection, where: str, namespace: str, endpoint: str, period: Period) -> CursorResult[Any]:
    values = {"namespace": namespace, "endpoint": endpoint, "low": period.start_us, "high": period.end_us}
    query = f"SELECT {_COLUMNS} FROM charge WHERE {where} AND {_NAMES} ORDER BY {_COLUMNS}"
    return db.execute(text(query), values)


def _add(db: Connection, run: Run) -> None:
    book = {"digest": run.digest, "spec": run.book}
    db.execute(text("INSERT INTO book VALUES (:digest, :spec) ON CONFLICT DO NOTHING"), book)
    db.execute(
        text("INSERT INTO seal VALUES (:number, :bucket_us, :sealed_us, :epoch, :book, :previous, :hash)"),
        [each.seal._asdict() for each in run.sealed],
    )
    if rows := rows_of(run):
        arrays = ", ".join(f"CAST(:c{number} AS {type_}[])" for number, type_ in enumerate(_TYPES))
        values = {f"c{number}": list(column) for number, column in enumerate(zip(*rows, strict=True))}
        db.execute(text(f"INSERT INTO charge ({_COLUMNS}) SELECT * FROM unnest({arrays})"), values)
    if run.late:
        db.execute(
            text(
                "DELETE FROM late WHERE namespace = :namespace AND endpoint = :endpoint AND since_us = :since_us"
                " AND number = :number"
            ),
            [each._asdict() for each in run.late],
        )
    for (span_us, start_us, key), quantity in times_of(run).items():
        place = {"span": span_us, "start": start_us, **key._asdict()}
        known = db.execute(_SUM, place).scalar()
        db.execute(_SUMMED, {**place, "quantity": str(quantity + (exact(known) if known else 0))})
    add_to_series(db, run.counters)


@contextmanager
def _refusals() -> Iterator[None]:
    """Say that sealing was refused where the database did."""
    try:
        yield
    except DBAPIError as error:
        if getattr(error.orig, "sqlstate", "") == FENCED:
            raise SealRefused(f"nothing is sealed: {error.orig}") from error
        raise
