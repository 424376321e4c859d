"""Read the rows of a SQLite ledger back as the records that the billing core folds."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import groupby
from operator import itemgetter
from typing import Any

from zerotide.billing.facts import END_RANK, Fact
from zerotide.billing.keepwarm import Floor
from zerotide.billing.ledger import Records, Wake
from zerotide.billing.rating import Period
from zerotide.billing.usage import OPEN_LIMIT_US, Attempt, Unbilled
from zerotide.exporter.assembly import EndpointRow, Found, Key, assembled
from zerotide.exporter.narrowing import assembled_with, mates, of_endpoint, shared, steady
from zerotide.exporter.store import OpenPod
from zerotide.exporter.woken import made_by, wakes_of

ARCHIVED = (
    "request_id, attempt, namespace, endpoint, consumer, pod_uid, cold, wake_id, forwarded_us, ended_us, outcome,"
    " input_tokens, cached_tokens, output_tokens, estimated, intent.record, settlement.record"
)
"""What is archived of a request: what is billed of it, and its records as they came."""
_fact: Callable[[tuple[Any, ...]], Fact] = partial(tuple.__new__, Fact)
"""Make a fact of a row: what `Fact._make` does, without a call of Python for each of a hundred thousand."""
_ENDS = ", ".join(f"'{kind.value}'" for kind in END_RANK)
_ON = "pod_uid IN (SELECT value FROM json_each(?))"
_BEGUN_BEFORE = f"+forwarded_us < ? AND +{_ON}"
"""The plus keeps SQLite from finding these by their pod, which would read all that it ever served."""


def records(db: sqlite3.Connection, namespace: str, endpoint: str, period: Period) -> list[Records]:
    """Return what is known of endpoints (empty: any) that bears on a period.

    That is the pods that lived in it, and their mates, with all requests on them, and the requests on any other pod
    that ended in it.
    """
    values = tuple(value for value in (namespace, endpoint) if value)
    pods = _lived(db, namespace, endpoint, period)
    known = db.execute(
        f"SELECT DISTINCT namespace, name FROM endpoint WHERE created_us < ?"
        f"{_where('namespace', namespace)}{_where('name', endpoint)}",
        (period.end_us, *values),
    )
    names_known = {(row[0], row[1]) for row in known}
    made, wakes = _with_mates(db, _found(db, pods, (), names_known, whole=True), period)
    uids = _uids(made.pods)
    # The plus keeps SQLite from reading all requests that an endpoint ever had: it needs those of few pods.
    theirs = _where("+namespace", namespace) + _where("+endpoint", endpoint)
    found = attempts(db, f"{_ON}{theirs}", (uids, *values))
    elsewhere = f"ended_us >= ? AND ended_us < ? AND NOT {_ON}{theirs}"
    found += attempts(db, elsewhere, (*period, uids, *values))
    found += _waking(db, wakes, uids, period)
    made = made._replace(attempts=found, unbilled=unbilled(db, namespace, endpoint, period))
    return assembled(made, names_known, period.start_us)


def billable(db: sqlite3.Connection, namespace: str, endpoint: str, period: Period) -> list[Records]:
    """Return what is known of endpoints (empty: any) that bears on the charges of a period."""
    found = _found(db, _lived(db, namespace, endpoint, period), (), set(), whole=False)
    found, wakes = _with_mates(db, found, period)
    pods, sharing = found.pods, shared(found.endpoints)
    early = steady(pods, found.facts, sharing, period)
    few, rest = json.dumps(list(early)), _uids(pod for pod in pods if pod.pod_uid not in early)
    oldest = _oldest(db, period.start_us)
    requests = attempts(db, _ON, (rest,))
    requests += attempts(db, f"ended_us >= ? AND {_BEGUN_BEFORE}", (*period, few))
    still = f"{_ON} AND forwarded_us >= ? AND forwarded_us < ? AND ended_us IS NULL"
    requests += attempts(db, still, (few, oldest, period.end_us))
    before = "pod_uid = ? AND forwarded_us < ? AND coalesce(ended_us < ?, forwarded_us < ?)"
    for uid, until_us in early.items():
        requests += attempts(db, before, (uid, until_us, period.start_us, oldest))
    requests += attempts(db, f"ended_us >= ? AND ended_us < ? AND NOT {_ON}", (*period, _uids(pods)))
    requests += _waking(db, wakes, _uids(pods), period)
    mine = of_endpoint(requests, namespace, endpoint)
    others = {(each.namespace, each.endpoint) for each in mine} - found.endpoints.keys()
    endpoints = {key: _endpoints(db, key) for key in others}
    found = found._replace(attempts=mine, wakes={key: _wakes(db, key) for key in sharing})
    return assembled_with(found, endpoints, period)


def _with_mates(db: sqlite3.Connection, found: Found, period: Period) -> tuple[Found, list[str]]:
    """Return what was found with the mates of replicas that start, and the wakes of these."""
    wakes, more = mates(found, period, partial(wakes_of, db), partial(made_by, db))
    return found._replace(pods=[*found.pods, *more], facts={**found.facts, **_facts(db, more)}), wakes


def _waking(db: sqlite3.Connection, wakes: Sequence[str], uids: str, period: Period) -> list[Attempt]:
    """Return the requests that waited for wakes, without those of pods and of a period that are read anyway."""
    rest = f"wake_id IN (SELECT value FROM json_each(?)) AND NOT {_ON} AND coalesce(ended_us < ? OR ended_us >= ?, 1)"
    return attempts(db, rest, (json.dumps(wakes), uids, *period)) if wakes else []


def unbilled(db: sqlite3.Connection, namespace: str, endpoint: str, period: Period) -> list[Unbilled]:
    """Return what endpoints (empty: any) served within a period that nobody could record."""
    query = (
        "SELECT namespace, endpoint, consumer, requests, to_us FROM unrecorded WHERE to_us >= ? AND to_us < ?"
        f"{_where('namespace', namespace)}{_where('endpoint', endpoint)} ORDER BY id"
    )
    rows = db.execute(query, (*period, *(value for value in (namespace, endpoint) if value)))
    return list(map(Unbilled._make, rows))


def owners(db: sqlite3.Connection, namespace: str, endpoint: str) -> dict[Key, str]:
    """Return who owns endpoints (empty: any) that are known: of several of a name the newest one's."""
    query = (
        "SELECT namespace, name, owner FROM endpoint WHERE true"
        f"{_where('namespace', namespace)}{_where('name', endpoint)} ORDER BY created_us, uid"
    )
    rows = db.execute(query, tuple(value for value in (namespace, endpoint) if value))
    return {(row[0], row[1]): row[2] for row in rows}


def starts(db: sqlite3.Connection, namespace: str, endpoint: str, period: Period) -> list[Records]:
    """Return the pods that lived in a period, with the requests that were begun in it."""
    pods = _lived(db, namespace, endpoint, period)
    found = attempts(db, f"{_ON} AND forwarded_us >= ? AND forwarded_us < ?", (_uids(pods), *period))
    return assembled(_found(db, pods, found, set(), whole=True), (), period.start_us)


def _lived(db: sqlite3.Connection, namespace: str, endpoint: str, period: Period) -> list[OpenPod]:
    rows = db.execute(
        "SELECT cluster, pod_uid, namespace, endpoint, settled_us FROM pod WHERE created_us < ?"
        f"{_where('namespace', namespace)}{_where('endpoint', endpoint)}"
        " AND coalesce((SELECT max(t_us) FROM known WHERE known.cluster = pod.cluster AND known.pod_uid = pod.pod_uid"
        f" AND kind IN ({_ENDS})), ?) >= ?",
        (period.end_us, *(value for value in (namespace, endpoint) if value), period.end_us, period.start_us),
    )
    return [OpenPod(*row) for row in rows]


def pod_records(db: sqlite3.Connection, pods: Sequence[OpenPod], since_us: int) -> list[Records]:
    """Return what is known of these pods by endpoint, with the attempts that were not over at `since_us`."""
    # Apart, the two conditions are found by an index each.
    oldest = _oldest(db, since_us)
    recent = f"{_ON} AND forwarded_us >= ? AND (ended_us IS NULL OR ended_us >= ?)"
    found = attempts(db, recent, (_uids(pods), oldest, since_us))
    found += attempts(db, f"ended_us >= ? AND {_BEGUN_BEFORE}", (since_us, oldest, _uids(pods)))
    return assembled(_found(db, pods, found, set(), whole=False), (), since_us)


def _oldest(db: sqlite3.Connection, since_us: int) -> int:
    """Return when the oldest requests without an end were begun that may be in flight; older ones count as over."""
    (limit,) = db.execute("SELECT max(request_timeout_us) FROM endpoint").fetchone()
    return since_us - max(limit or 0, OPEN_LIMIT_US)


def attempts(db: sqlite3.Connection, condition: str, values: Iterable[Any]) -> list[Attempt]:
    """Return the attempts whose row of `intent` left-joined with `settlement` meets a condition."""
    rows = db.execute(
        "SELECT request_id, attempt, namespace, endpoint, consumer, pod_uid, cold, wake_id, forwarded_us, ended_us,"
        " coalesce(outcome, ''), coalesce(input_tokens, 0), coalesce(cached_tokens, 0), coalesce(output_tokens, 0),"
        " coalesce(estimated, 0), adapter"
        " FROM intent LEFT JOIN settlement USING (request_id, attempt)"
        f" WHERE {condition} ORDER BY forwarded_us, request_id, attempt",
        tuple(values),
    )
    return list(map(Attempt._make, rows))


def requests(db: sqlite3.Connection, period: Period) -> Iterator[tuple[Any, ...]]:
    """Yield the requests that ended in a period, each with the texts of its two records."""
    return db.execute(
        f"SELECT {ARCHIVED} FROM settlement JOIN intent USING (request_id, attempt)"
        " WHERE ended_us >= ? AND ended_us < ?",
        period,
    )


def _found(
    db: sqlite3.Connection, pods: Sequence[OpenPod], requests: Sequence[Attempt], known: set[Key], *, whole: bool
) -> Found:
    keys = known | {(pod.namespace, pod.endpoint) for pod in pods}
    endpoints = {key: _endpoints(db, key) for key in keys}
    uids = [row.uid for rows in endpoints.values() for row in rows]
    return Found(
        pods=pods,
        attempts=requests,
        facts=_facts(db, pods),
        endpoints=endpoints,
        floors={uid: _floors(db, uid) for uid in uids},
        wakes={key: _wakes(db, key) for key in keys} if whole else {},
    )


def _endpoints(db: sqlite3.Connection, key: Key) -> list[EndpointRow]:
    rows = db.execute(
        "SELECT uid, created_us, owner, request_timeout_us, cold_start, split FROM endpoint"
        " WHERE namespace = ? AND name = ?",
        key,
    )
    return [EndpointRow(*row) for row in rows]


def _floors(db: sqlite3.Connection, uid: str) -> list[Floor]:
    query = "SELECT from_us, replicas, clock FROM floor WHERE endpoint_uid = ? ORDER BY generation"
    return [Floor(*row) for row in db.execute(query, (uid,))]


def _facts(db: sqlite3.Connection, pods: Sequence[OpenPod]) -> dict[str, list[Fact]]:
    """Return the facts of many pods, in two queries for each cluster."""
    found: dict[str, list[Fact]] = {}
    for cluster in {pod.cluster for pod in pods}:
        subjects = db.execute(
            f"SELECT number, pod_uid FROM subject WHERE cluster = ? AND {_ON}",
            (cluster, _uids(pod for pod in pods if pod.cluster == cluster)),
        )
        # One text for the name of a pod, instead of one from the database for each of its facts.
        names = dict(subjects.fetchall())
        rows = db.execute(
            "SELECT subject, kind, key, t_us FROM fact WHERE subject IN (SELECT value FROM json_each(?))",
            (json.dumps(list(names)),),
        )
        # What is found of a pod comes together.
        for number, facts in groupby(rows, itemgetter(0)):
            uid = names[number]
            mine = [_fact((cluster, uid, kind, key, t_us)) for _, kind, key, t_us in facts]
            found.setdefault(uid, []).extend(mine)
    return found


def _wakes(db: sqlite3.Connection, key: Key) -> list[Wake]:
    rows = db.execute(
        "SELECT endpoint_uid, wake_id, namespace, endpoint, time_us, cause, total_us, stages FROM wake"
        " WHERE namespace = ? AND endpoint = ? ORDER BY time_us",
        key,
    )
    return [Wake._make((*row[:7], tuple((name, us) for name, us in json.loads(row[7])))) for row in rows]


def _uids(pods: Iterable[OpenPod]) -> str:
    return json.dumps([pod.pod_uid for pod in pods])


def _where(column: str, value: str) -> str:
    return f" AND {column} = ?" if value else ""
