"""Read the rows of a SQLite ledger back as the records that the billing core folds."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Sequence
from typing import Any

from zerotide.billing.facts import END_RANK, Fact
from zerotide.billing.keepwarm import Floor
from zerotide.billing.ledger import Records, Wake
from zerotide.billing.rating import Period
from zerotide.billing.usage import OPEN_LIMIT_US, Attempt
from zerotide.exporter.store import OpenPod

_ENDS = ", ".join(f"'{kind.value}'" for kind in END_RANK)
Key = tuple[str, str]


def records(db: sqlite3.Connection, namespace: str, endpoint: str, period: Period) -> list[Records]:
    """Return what is known of endpoints (empty: any) that bears on a period: pods that lived in it, and all theirs."""
    names = _where("namespace", namespace) + _where("endpoint", endpoint)
    values = tuple(value for value in (namespace, endpoint) if value)
    pods = db.execute(
        f"SELECT cluster, pod_uid, namespace, endpoint, settled_us FROM pod WHERE created_us < ?{names}"
        " AND coalesce((SELECT max(t_us) FROM fact WHERE fact.cluster = pod.cluster AND fact.pod_uid = pod.pod_uid"
        f" AND kind IN ({_ENDS})), ?) >= ?",
        (period.end_us, *values, period.end_us, period.start_us),
    ).fetchall()
    known = {
        (row[0], row[1])
        for row in db.execute(
            f"SELECT DISTINCT namespace, name FROM endpoint WHERE created_us < ?"
            f"{_where('namespace', namespace)}{_where('name', endpoint)}",
            (period.end_us, *values),
        )
    }
    return _assembled(db, [OpenPod(*row) for row in pods], known, period.start_us, whole=True)


def pod_records(db: sqlite3.Connection, pods: Sequence[OpenPod], since_us: int) -> list[Records]:
    """Return what is known of these pods by endpoint, with the attempts that were not over at `since_us`."""
    return _assembled(db, pods, set(), since_us, whole=False)


def attempts(db: sqlite3.Connection, condition: str, values: Iterable[Any]) -> list[Attempt]:
    """Return the attempts whose row of `intent` left-joined with `settlement` meets a condition."""
    rows = db.execute(
        "SELECT request_id, attempt, namespace, endpoint, consumer, pod_uid, cold, wake_id, forwarded_us, ended_us,"
        " coalesce(outcome, ''), coalesce(input_tokens, 0), coalesce(cached_tokens, 0), coalesce(output_tokens, 0)"
        " FROM intent LEFT JOIN settlement USING (request_id, attempt)"
        f" WHERE {condition} ORDER BY forwarded_us, request_id, attempt",
        tuple(values),
    )
    return [Attempt(*row) for row in rows]


def _assembled(
    db: sqlite3.Connection, pods: Sequence[OpenPod], known: set[Key], since_us: int, *, whole: bool
) -> list[Records]:
    by_endpoint: dict[Key, list[OpenPod]] = {key: [] for key in known}
    for pod in pods:
        by_endpoint.setdefault((pod.namespace, pod.endpoint), []).append(pod)
    return [_one(db, key, by_endpoint[key], since_us, whole) for key in sorted(by_endpoint)]


def _one(db: sqlite3.Connection, key: Key, pods: Sequence[OpenPod], since_us: int, whole: bool) -> Records:
    found = db.execute(
        "SELECT uid, created_us, owner, request_timeout_us FROM endpoint WHERE namespace = ? AND name = ?"
        " ORDER BY created_us",
        key,
    ).fetchall()
    facts = {pod.pod_uid: _facts(db, pod) for pod in pods}
    births = [created for _, created, _, _ in found] or [
        fact.t_us for each in facts.values() for fact in each if fact.kind == "created"
    ]
    floors = [
        Floor(from_us, replicas)
        for uid, *_ in found
        for from_us, replicas in db.execute("SELECT from_us, replicas FROM floor WHERE endpoint_uid = ?", (uid,))
    ]
    return Records(
        namespace=key[0],
        endpoint=key[1],
        owner=found[-1][2] if found else f"{key[0]}/{key[1]}",
        since_us=min(births, default=since_us),
        facts=facts,
        attempts=tuple(_attempts(db, key, pods, since_us, whole)),
        floors=tuple(sorted(floors)),
        wakes=tuple(_wakes(db, key)) if whole else (),
        open_limit_us=found[-1][3] if found else OPEN_LIMIT_US,
    )


def _facts(db: sqlite3.Connection, pod: OpenPod) -> list[Fact]:
    rows = db.execute(
        "SELECT cluster, pod_uid, kind, key, t_us FROM fact WHERE cluster = ? AND pod_uid = ?",
        (pod.cluster, pod.pod_uid),
    )
    return [Fact(*row) for row in rows]


def _attempts(db: sqlite3.Connection, key: Key, pods: Sequence[OpenPod], since_us: int, whole: bool) -> list[Attempt]:
    """Return the attempts on these pods, and for a report those on pods that nobody saw as well."""
    if whole:
        oldest = min((_created(db, pod) for pod in pods), default=since_us)
        condition = "namespace = ? AND endpoint = ? AND (ended_us IS NULL OR ended_us >= ?)"
        return attempts(db, condition, (*key, min(oldest, since_us)))
    marks = ", ".join("?" for _ in pods)
    condition = f"pod_uid IN ({marks}) AND (ended_us IS NULL OR ended_us >= ?)"
    return attempts(db, condition, (*(pod.pod_uid for pod in pods), since_us))


def _created(db: sqlite3.Connection, pod: OpenPod) -> int:
    """Return when a pod was created."""
    row = db.execute("SELECT created_us FROM pod WHERE cluster = ? AND pod_uid = ?", pod[:2]).fetchone()
    return int(row[0])


def _wakes(db: sqlite3.Connection, key: Key) -> list[Wake]:
    rows = db.execute(
        "SELECT endpoint_uid, wake_id, namespace, endpoint, time_us, cause, total_us, stages FROM wake"
        " WHERE namespace = ? AND endpoint = ? ORDER BY time_us",
        key,
    )
    return [Wake._make((*row[:7], tuple((name, us) for name, us in json.loads(row[7])))) for row in rows]


def _where(column: str, value: str) -> str:
    return f" AND {column} = ?" if value else ""
