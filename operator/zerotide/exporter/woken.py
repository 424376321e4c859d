"""Find the replicas of one wake in a SQLite ledger: whoever woke one of them may pay for the starts of all."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable

from zerotide.billing.ledger import ColdStart
from zerotide.exporter.assembly import Key
from zerotide.exporter.narrowing import DURING, Made
from zerotide.exporter.store import OpenPod

_POD = "cluster, pod_uid, pod.namespace, pod.endpoint, settled_us, created_us"
_MINE = "pod.namespace = ? AND pod.endpoint = ?"
_IN = "IN (SELECT value FROM json_each(?))"
_OF = "wake.namespace = pod.namespace AND wake.endpoint = pod.endpoint"


def wakes_of(db: sqlite3.Connection, key: Key, uids: Iterable[str]) -> set[str]:
    """Return the wakes that replicas may belong to: those that their requests name, and those that saw them created."""
    pods = json.dumps(list(uids))
    named = db.execute(f"SELECT DISTINCT wake_id FROM intent WHERE +wake_id <> '' AND pod_uid {_IN}", (pods,))
    during = f"SELECT DISTINCT wake_id FROM pod JOIN wake ON {_OF} AND {DURING} WHERE {_MINE} AND pod_uid {_IN}"
    return {row[0] for row in (*named, *db.execute(during, (*key, pods)))}


def made_by(db: sqlite3.Connection, key: Key, wakes: Iterable[str]) -> list[Made]:
    """Return the replicas that may belong to wakes."""
    ids = json.dumps(list(wakes))
    named = f"SELECT {_POD} FROM pod WHERE {_MINE} AND pod_uid IN (SELECT pod_uid FROM intent WHERE wake_id {_IN})"
    during = f"SELECT {_POD} FROM wake CROSS JOIN pod ON {_OF} AND {DURING} WHERE {_MINE} AND wake_id {_IN}"
    rows = {tuple(row) for query in (named, during) for row in db.execute(query, (*key, ids))}
    return [Made(OpenPod(*row[:5]), row[5]) for row in sorted(rows)]


def woken_since(db: sqlite3.Connection, key: Key, since_us: int) -> int:
    """Return the birth of the oldest replica for whose start may pay who is told late since an instant."""
    rule = "SELECT 1 FROM endpoint WHERE namespace = ? AND name = ? AND cold_start = ?"
    if db.execute(rule, (*key, ColdStart.TRIGGER.value)).fetchone() is None:
        return since_us
    pods = db.execute(f"SELECT pod_uid FROM pod WHERE {_MINE} AND created_us >= ?", (*key, since_us)).fetchall()
    named = (
        "SELECT DISTINCT wake_id FROM intent WHERE namespace = ? AND endpoint = ? AND forwarded_us >= ?"
        " AND +wake_id <> ''"
    )
    wakes = {row[0] for row in db.execute(named, (*key, since_us))} | wakes_of(db, key, (row[0] for row in pods))
    return min([since_us, *(each.created_us for each in made_by(db, key, wakes))])
