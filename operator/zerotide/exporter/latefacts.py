"""Note whose sealed charges facts may change that come late, in a SQLite ledger: for each delivery, not for each fact.

A trigger of the table would be run for each row, which takes as long as half of writing it; SQLite has none for a
statement. The notes are those of `sealschema`, in the transaction that adds the facts.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable

from zerotide.exporter.sealschema import bucket, noting

_LATE = (
    " FROM subject JOIN pod USING (cluster, pod_uid) WHERE subject.number IN (SELECT value FROM json_each(?))"
    " AND created_us < (SELECT cut_us FROM sealing)"
)
_NOTES = noting(f"SELECT DISTINCT namespace, endpoint, {bucket('created_us')}{_LATE}")


def late_facts(db: sqlite3.Connection, numbers: Iterable[int]) -> dict[int, int]:
    """Return how many facts there are of those of some pods that began before what is sealed, by the pods' numbers."""
    (cut_us,) = db.execute("SELECT cut_us FROM sealing").fetchone()
    if not cut_us:
        return {}
    counted = "(SELECT count(*) FROM fact WHERE fact.subject = subject.number)"
    return dict(db.execute(f"SELECT subject.number, {counted}{_LATE}", (json.dumps(list(numbers)),)).fetchall())


def note_late(db: sqlite3.Connection, before: dict[int, int], after: dict[int, int]) -> None:
    """Note the pods that have more facts than before."""
    changed = json.dumps([number for number, count in after.items() if count != before.get(number)])
    if changed == "[]":
        return
    for statement in _NOTES:
        db.execute(statement, (changed,))
