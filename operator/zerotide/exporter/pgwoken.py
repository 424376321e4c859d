"""Find the replicas of one wake in a PostgreSQL ledger: whoever woke one of them may pay for the starts of all."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import Connection, text

from zerotide.billing.ledger import ColdStart
from zerotide.exporter.assembly import Key
from zerotide.exporter.narrowing import DURING, Made
from zerotide.exporter.store import OpenPod

_POD = "cluster, pod.pod_uid::text, pod.namespace, pod.endpoint, settled_us, created_us"
_MINE = "pod.namespace = :namespace AND pod.endpoint = :name"
_OF = "wake.namespace = pod.namespace AND wake.endpoint = pod.endpoint"


def wakes_of(db: Connection, key: Key, uids: Iterable[str]) -> set[str]:
    """Return the wakes that replicas may belong to: those that their requests name, and those that saw them created."""
    query = (
        "SELECT wake_id FROM intent WHERE wake_id <> '' AND pod_uid = ANY(:uids)"
        f" UNION SELECT wake_id FROM pod JOIN wake ON {_OF} AND {DURING}"
        f" WHERE {_MINE} AND pod_uid = ANY(CAST(:uids AS uuid[]))"
    )
    return {row[0] for row in db.execute(text(query), {**_named(key), "uids": list(uids)})}


def made_by(db: Connection, key: Key, wakes: Iterable[str]) -> list[Made]:
    """Return the replicas that may belong to wakes."""
    query = (
        f"SELECT {_POD} FROM pod"
        f" WHERE {_MINE} AND pod.pod_uid::text IN (SELECT pod_uid FROM intent WHERE wake_id = ANY(:wakes))"
        f" UNION SELECT {_POD} FROM pod JOIN wake ON {_OF} AND {DURING} WHERE {_MINE} AND wake_id = ANY(:wakes)"
    )
    rows = sorted(tuple(row) for row in db.execute(text(query), {**_named(key), "wakes": list(wakes)}))
    return [Made(OpenPod(*row[:5]), row[5]) for row in rows]


def woken_since(db: Connection, key: Key, since_us: int) -> int:
    """Return the birth of the oldest replica for whose start may pay who is told late since an instant."""
    names = {**_named(key), "since": since_us, "rule": ColdStart.TRIGGER.value}
    rule = "SELECT 1 FROM endpoint WHERE namespace = :namespace AND name = :name AND cold_start = :rule"
    if db.execute(text(rule), names).first() is None:
        return since_us
    pods = db.execute(text(f"SELECT pod_uid::text FROM pod WHERE {_MINE} AND created_us >= :since"), names)
    named = (
        "SELECT DISTINCT wake_id FROM intent WHERE namespace = :namespace AND endpoint = :name"
        " AND forwarded_us >= :since AND wake_id <> ''"
    )
    wakes = wakes_of(db, key, [row[0] for row in pods]) | {row[0] for row in db.execute(text(named), names)}
    return min([since_us, *(each.created_us for each in made_by(db, key, wakes))])


def _named(key: Key) -> dict[str, str]:
    return {"namespace": key[0], "name": key[1]}
