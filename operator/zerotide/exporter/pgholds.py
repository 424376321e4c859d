"""Reservations in a PostgreSQL ledger, within the transactions of its store."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

from sqlalchemy import Connection, text

from zerotide.billing.quotas import Hold, Holder
from zerotide.billing.rating import Period
from zerotide.exporter import pgreading
from zerotide.exporter.holds import Decide, hold_of

Begin = Callable[[], AbstractContextManager[Connection]]
_BUDGET = "namespace = :namespace AND budget = :budget"
_HOLDER = "pod = :pod AND process = :process AND born_us = :born_us"


class PostgresHolds:
    """The reservations of a PostgreSQL ledger; each transaction holds the lock under which usage is recorded, too."""

    def __init__(self, writing: Begin) -> None:
        self._writing = writing

    def reserve(self, hold: Hold, periods: Sequence[Period], decide: Decide) -> bool:
        """Reserve what is decided, unless a later ask came before."""
        key = {"namespace": hold.namespace, "budget": hold.budget, **hold.holder._asdict()}
        with self._writing() as db:
            known = db.execute(text(f"SELECT number FROM hold WHERE {_BUDGET} AND {_HOLDER}"), key).scalar()
            if known is not None and known >= hold.number:
                return False
            query = f"SELECT coalesce(sum(amount), 0) FROM hold WHERE {_BUDGET} AND NOT ({_HOLDER})"
            others = int(db.execute(text(query), key).scalar_one())
            used = [pgreading.usage(db, hold.namespace, "", period) for period in periods]
            db.execute(
                text(
                    "INSERT INTO hold VALUES (:namespace, :budget, :pod, :process, :born_us, :number, :amount, :until)"
                    " ON CONFLICT (namespace, budget, pod, process, born_us) DO UPDATE SET"
                    " number = excluded.number, amount = excluded.amount, until_us = excluded.until_us"
                ),
                {**key, "number": hold.number, "amount": decide(used, others), "until": hold.until_us},
            )
        return True

    def outlive(self, heir: Holder) -> None:
        """Forget what earlier processes had reserved."""
        with self._writing() as db:
            query = "DELETE FROM hold WHERE pod = :pod AND process = :process AND born_us < :born_us"
            db.execute(text(query), heir._asdict())

    def all(self) -> list[Hold]:
        """Return every reservation."""
        with self._writing() as db:
            rows = db.execute(text("SELECT * FROM hold ORDER BY 1, 2, 3, 4, 5")).all()
        return [hold_of(*row) for row in rows]

    def forget(self, holds: Sequence[Hold]) -> None:
        """Forget reservations that are still as given."""
        with self._writing() as db:
            for each in holds:
                key = {"namespace": each.namespace, "budget": each.budget, **each.holder._asdict()}
                query = f"DELETE FROM hold WHERE {_BUDGET} AND {_HOLDER} AND number = :number"
                db.execute(text(query), {**key, "number": each.number})
