"""Reservations in a SQLite ledger, within the connection and the transactions of its store."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

from zerotide.billing.quotas import Hold, Holder
from zerotide.billing.rating import Period
from zerotide.exporter import sums
from zerotide.exporter.holds import Decide, hold_of

Begin = Callable[[], AbstractContextManager[None]]
_KEY = "namespace = ? AND budget = ? AND pod = ? AND process = ? AND born_us = ?"


class SQLiteHolds:
    """The reservations of a SQLite ledger."""

    def __init__(self, db: sqlite3.Connection, writing: Begin) -> None:
        self._db, self._writing = db, writing

    def reserve(self, hold: Hold, periods: Sequence[Period], decide: Decide) -> bool:
        """Reserve what is decided, unless a later ask came before."""
        key = (hold.namespace, hold.budget, *hold.holder)
        with self._writing():
            known = self._db.execute(f"SELECT number FROM hold WHERE {_KEY}", key).fetchone()
            if known is not None and known[0] >= hold.number:
                return False
            (others,) = self._db.execute(
                f"SELECT coalesce(sum(amount), 0) FROM hold WHERE namespace = ? AND budget = ? AND NOT ({_KEY})",
                (hold.namespace, hold.budget, *key),
            ).fetchone()
            used = [sums.usage(self._db, hold.namespace, "", period) for period in periods]
            row = (*key, hold.number, decide(used, others), hold.until_us)
            self._db.execute("INSERT OR REPLACE INTO hold VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)
        return True

    def outlive(self, heir: Holder) -> None:
        """Forget what earlier processes had reserved."""
        with self._writing():
            self._db.execute("DELETE FROM hold WHERE pod = ? AND process = ? AND born_us < ?", heir)

    def all(self) -> list[Hold]:
        """Return every reservation."""
        with self._writing():
            rows = self._db.execute("SELECT * FROM hold ORDER BY 1, 2, 3, 4, 5").fetchall()
        return [hold_of(*row) for row in rows]

    def forget(self, holds: Sequence[Hold]) -> None:
        """Forget reservations that are still as given."""
        with self._writing():
            rows = [(each.namespace, each.budget, *each.holder, each.number) for each in holds]
            self._db.executemany(f"DELETE FROM hold WHERE {_KEY} AND number = ?", rows)
