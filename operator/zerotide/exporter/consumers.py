"""Which consumers have counters of their own: a bounded number of places, so that metrics stay small.

Whoever has no place is counted together as `_other`. A counter that loses its place is kept, hidden, and goes on from
there when its consumer comes back: no counter ever decreases, and each token is in exactly one of them.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

from zerotide.api.scalars import HOUR

PLACES = 500
OTHER = "_other"


def labels(db: sqlite3.Connection, consumers: Iterable[str], now_us: int) -> dict[str, str]:
    """Return the label of each consumer; a new one takes a free place, or that of one idle for an hour.

    To be called within a transaction that writes.
    """
    return {name: name if _placed(db, name, now_us) else OTHER for name in sorted(set(consumers))}


def _placed(db: sqlite3.Connection, name: str, now_us: int) -> bool:
    if db.execute("UPDATE consumer SET last_us = max(last_us, ?) WHERE name = ?", (now_us, name)).rowcount:
        return True
    (taken,) = db.execute("SELECT count(*) FROM consumer").fetchone()
    longest_idle = "SELECT name FROM consumer WHERE last_us <= ? ORDER BY last_us, name LIMIT 1"
    vacate = f"DELETE FROM consumer WHERE name = ({longest_idle})"
    if taken >= PLACES and not db.execute(vacate, (now_us - HOUR,)).rowcount:
        return False
    db.execute("INSERT INTO consumer VALUES (?, ?)", (name, now_us))
    return True
