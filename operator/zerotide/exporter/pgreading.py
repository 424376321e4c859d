"""Read the rows of a PostgreSQL ledger back as the records that the billing core folds."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fractions import Fraction
from functools import partial
from typing import Any

from sqlalchemy import Connection, text

from zerotide.billing.facts import END_RANK, Fact
from zerotide.billing.keepwarm import Floor
from zerotide.billing.ledger import Records, Wake
from zerotide.billing.rating import Period
from zerotide.billing.rollups import DAY, QUARTER, Usage, UsageKey, cover
from zerotide.billing.usage import OPEN_LIMIT_US, Attempt, Unbilled
from zerotide.exporter.assembly import EndpointRow, Found, Key, assembled
from zerotide.exporter.narrowing import assembled_with, mates, of_endpoint, shared, steady
from zerotide.exporter.pgwoken import made_by, wakes_of
from zerotide.exporter.reading import ARCHIVED
from zerotide.exporter.store import DayKey, OpenPod

ENDS = [kind.value for kind in END_RANK]
_NAMES = "(:namespace = '' OR namespace = :namespace) AND (:endpoint = '' OR endpoint = :endpoint)"
_ATTEMPT = (
    "SELECT request_id, attempt, namespace, endpoint, consumer, pod_uid, cold, wake_id, forwarded_us, ended_us,"
    " coalesce(outcome, ''), coalesce(input_tokens, 0), coalesce(cached_tokens, 0), coalesce(output_tokens, 0),"
    " coalesce(estimated, 0), adapter FROM intent LEFT JOIN settlement USING (request_id, attempt)"
)
_WHO = "namespace, endpoint, consumer"
_SUMS = "sum(requests)::bigint, sum(input)::bigint, sum(cached)::bigint, sum(output)::bigint, sum(estimated)::bigint"
_RAW = (
    f"SELECT {_WHO}, 1 AS requests, input_tokens AS input, cached_tokens AS cached, output_tokens AS output,"
    " output_tokens * estimated AS estimated FROM settlement JOIN intent USING (request_id, attempt)"
    " WHERE outcome <> 'lost' AND ended_us >= {low} AND ended_us < {high}"
)
_KEPT = (
    f"SELECT {_WHO}, requests, input, cached, output, estimated FROM usage_sum"
    " WHERE span_us = {span} AND start_us >= {low} AND start_us < {high}"
)

_WAKING = "wake_id = ANY(:wakes) AND NOT pod_uid = ANY(:uids) AND coalesce(ended_us < :low OR ended_us >= :high, true)"
"""The requests that waited for wakes, without those of pods and of a period that are read anyway."""


def records(db: Connection, namespace: str, endpoint: str, period: Period) -> list[Records]:
    """Return what is known of endpoints (empty: any) that bears on a period, as the SQLite ledger does."""
    bounds = _bounds(namespace, endpoint, period)
    pods = _lived(db, bounds)
    known_rows = db.execute(
        text(
            "SELECT DISTINCT namespace, name FROM endpoint WHERE created_us < :high"
            " AND (:namespace = '' OR namespace = :namespace) AND (:endpoint = '' OR name = :endpoint)"
        ),
        bounds,
    )
    known = {(row[0], row[1]) for row in known_rows}
    made, wakes = _with_mates(db, _found(db, pods, (), known, whole=True), period)
    mine = {**bounds, "uids": [pod.pod_uid for pod in made.pods], "wakes": wakes}
    found = attempts(db, f"pod_uid = ANY(:uids) AND {_NAMES}", mine)
    found += attempts(db, f"ended_us >= :low AND ended_us < :high AND NOT pod_uid = ANY(:uids) AND {_NAMES}", mine)
    found += attempts(db, _WAKING, mine) if wakes else []
    made = made._replace(attempts=found, unbilled=unbilled(db, namespace, endpoint, period))
    return assembled(made, known, period.start_us)


def billable(db: Connection, namespace: str, endpoint: str, period: Period) -> list[Records]:
    """Return what is known of endpoints (empty: any) that bears on the charges of a period."""
    bounds = _bounds(namespace, endpoint, period)
    found, wakes = _with_mates(db, _found(db, _lived(db, bounds), (), set(), whole=False), period)
    pods, sharing = found.pods, shared(found.endpoints)
    early = steady(pods, found.facts, sharing, period)
    values = {
        **bounds,
        "uids": [pod.pod_uid for pod in pods],
        "rest": [pod.pod_uid for pod in pods if pod.pod_uid not in early],
        "few": list(early),
        "untils": list(early.values()),
        "oldest": _oldest(db, period.start_us),
        "wakes": wakes,
    }
    requests = attempts(db, "pod_uid = ANY(:rest)", values)
    requests += attempts(db, "ended_us >= :low AND forwarded_us < :high AND pod_uid = ANY(:few)", values)
    still = "pod_uid = ANY(:few) AND forwarded_us >= :oldest AND forwarded_us < :high AND ended_us IS NULL"
    requests += attempts(db, still, values)
    before = (
        "EXISTS (SELECT 1 FROM unnest(CAST(:few AS text[]), CAST(:untils AS bigint[])) AS early (uid, until_us)"
        " WHERE uid = pod_uid AND forwarded_us < until_us) AND coalesce(ended_us < :low, forwarded_us < :oldest)"
    )
    requests += attempts(db, before, values)
    requests += attempts(db, "ended_us >= :low AND ended_us < :high AND NOT pod_uid = ANY(:uids)", values)
    requests += attempts(db, _WAKING, values) if wakes else []
    mine = of_endpoint(requests, namespace, endpoint)
    others = {(each.namespace, each.endpoint) for each in mine} - found.endpoints.keys()
    found = found._replace(attempts=mine, wakes=_wakes(db, _pairs(sharing)))
    return assembled_with(found, _endpoints(db, _pairs(others)), period)


def _with_mates(db: Connection, found: Found, period: Period) -> tuple[Found, list[str]]:
    """Return what was found with the mates of replicas that start, and the wakes of these."""
    wakes, more = mates(found, period, partial(wakes_of, db), partial(made_by, db))
    return found._replace(pods=[*found.pods, *more], facts={**found.facts, **facts_of(db, more)}), wakes


def unbilled(db: Connection, namespace: str, endpoint: str, period: Period) -> list[Unbilled]:
    """Return what endpoints (empty: any) served within a period that nobody could record."""
    query = (
        "SELECT namespace, endpoint, consumer, requests, to_us FROM unrecorded"
        f" WHERE to_us >= :low AND to_us < :high AND {_NAMES} ORDER BY id"
    )
    return [Unbilled(*row) for row in db.execute(text(query), _bounds(namespace, endpoint, period))]


def owners(db: Connection, namespace: str, endpoint: str) -> dict[Key, str]:
    """Return who owns endpoints (empty: any) that are known: of several of a name the newest one's."""
    query = (
        "SELECT namespace, name, owner FROM endpoint WHERE (:namespace = '' OR namespace = :namespace)"
        " AND (:endpoint = '' OR name = :endpoint) ORDER BY created_us, uid"
    )
    rows = db.execute(text(query), {"namespace": namespace, "endpoint": endpoint})
    return {(row[0], row[1]): row[2] for row in rows}


def starts(db: Connection, namespace: str, endpoint: str, period: Period) -> list[Records]:
    """Return the pods that lived in a period, with the requests that were begun in it."""
    bounds = _bounds(namespace, endpoint, period)
    pods = _lived(db, bounds)
    mine = {**bounds, "uids": [pod.pod_uid for pod in pods]}
    found = attempts(db, f"pod_uid = ANY(:uids) AND forwarded_us >= :low AND forwarded_us < :high AND {_NAMES}", mine)
    return assembled(_found(db, pods, found, set(), whole=True), (), period.start_us)


def costs(db: Connection, namespace: str, endpoint: str, since_us: int) -> dict[DayKey, Fraction]:
    """Return what settled time cost, by day, from the day of an instant on."""
    query = f"SELECT namespace, endpoint, day_us, currency, amount FROM cost_sum WHERE day_us >= :low AND {_NAMES}"
    values = {"low": since_us // DAY * DAY, "namespace": namespace, "endpoint": endpoint}
    return {DayKey(*row[:4]): Fraction(row[4]) for row in db.execute(text(query), values)}


def _bounds(namespace: str, endpoint: str, period: Period) -> dict[str, Any]:
    names = {"namespace": namespace, "endpoint": endpoint}
    return {**names, "low": period.start_us, "high": period.end_us, "ends": ENDS}


def _lived(db: Connection, bounds: Mapping[str, Any]) -> list[OpenPod]:
    rows = db.execute(
        text(
            "SELECT cluster, pod_uid::text, namespace, endpoint, settled_us FROM pod"
            f" WHERE created_us < :high AND {_NAMES} AND coalesce((SELECT max(t_us) FROM fact"
            " WHERE fact.pod_uid = pod.pod_uid AND fact.cluster = pod.cluster AND kind = ANY(:ends)), :high) >= :low"
        ),
        bounds,
    )
    return [OpenPod(*row) for row in rows]


def pod_records(db: Connection, pods: Sequence[OpenPod], since_us: int) -> list[Records]:
    """Return what is known of these pods by endpoint, with the attempts that were not over at `since_us`."""
    bounds = {
        "uids": [pod.pod_uid for pod in pods],
        "since": since_us,
        "oldest": _oldest(db, since_us),
    }
    still = "pod_uid = ANY(:uids) AND (ended_us >= :since OR (ended_us IS NULL AND forwarded_us >= :oldest))"
    return assembled(_found(db, pods, attempts(db, still, bounds), set(), whole=False), (), since_us)


def _oldest(db: Connection, since_us: int) -> int:
    """Return when the oldest requests without an end were begun that may be in flight; older ones count as over."""
    limit = db.execute(text("SELECT max(request_timeout_us) FROM endpoint")).scalar() or 0
    return since_us - max(limit, OPEN_LIMIT_US)


def attempts(db: Connection, condition: str, values: Mapping[str, Any]) -> list[Attempt]:
    """Return the attempts whose row of `intent` left-joined with `settlement` meets a condition."""
    rows = db.execute(text(f"{_ATTEMPT} WHERE {condition} ORDER BY forwarded_us, request_id, attempt"), values)
    return [Attempt(*row) for row in rows]


def usage(db: Connection, namespace: str, endpoint: str, period: Period) -> dict[UsageKey, Usage]:
    """Return usage within a period: whole days, quarters at the ends, and what they leave from the requests."""
    covered = cover(period)
    wholes = ((DAY, covered.days), *((QUARTER, quarter) for quarter in covered.quarters))
    parts = [_KEPT.format(span=span, low=low, high=high) for span, (low, high) in wholes]
    parts += [_RAW.format(low=low, high=high) for low, high in covered.rests]
    return _summed(db, parts, namespace, endpoint)


def usage_raw(db: Connection, namespace: str, endpoint: str, period: Period) -> dict[UsageKey, Usage]:
    """Return usage within a period from the requests themselves."""
    return _summed(db, [_RAW.format(low=period.start_us, high=period.end_us)], namespace, endpoint)


def ended(db: Connection, period: Period) -> dict[int, int]:
    """Return how many requests ended on each day."""
    query = (
        f"SELECT ended_us / {DAY} * {DAY}, count(*) FROM settlement WHERE ended_us >= :low AND ended_us < :high"
        " GROUP BY 1"
    )
    return _by_day(db, query, period)


def delivered(db: Connection, period: Period) -> dict[int, int]:
    """Return how many requests of each day are in the sums."""
    query = (
        f"SELECT start_us, sum(requests)::bigint FROM usage_sum WHERE span_us = {DAY} AND start_us >= :low"
        " AND start_us < :high GROUP BY 1"
    )
    return _by_day(db, query, period)


def _by_day(db: Connection, query: str, period: Period) -> dict[int, int]:
    rows = db.execute(text(query), {"low": period.start_us, "high": period.end_us})
    return {row[0]: row[1] for row in rows}


def requests(db: Connection, period: Period) -> Iterator[Sequence[Any]]:
    """Yield the requests that ended in a period, each with the texts of its two records."""
    query = (
        f"SELECT {ARCHIVED} FROM settlement JOIN intent USING (request_id, attempt)"
        " WHERE ended_us >= :low AND ended_us < :high"
    )
    # A day's requests are not to be had at once: the server keeps them, and gives them by the thousand.
    stream = db.execution_options(yield_per=10_000)
    for row in stream.execute(text(query), {"low": period.start_us, "high": period.end_us}):
        yield tuple(row)


def facts_of(db: Connection, pods: Iterable[OpenPod]) -> dict[str, list[Fact]]:
    """Return the facts of pods, by pod uid."""
    found: dict[str, list[Fact]] = {}
    wanted = {(pod.cluster, pod.pod_uid) for pod in pods}
    rows = db.execute(
        text("SELECT cluster, pod_uid::text, kind, key, t_us FROM fact WHERE pod_uid = ANY(CAST(:uids AS uuid[]))"),
        {"uids": [uid for _, uid in wanted]},
    )
    for fact in map(Fact._make, rows):
        if (fact.cluster, fact.pod_uid) in wanted:
            found.setdefault(fact.pod_uid, []).append(fact)
    return found


def _summed(db: Connection, parts: list[str], namespace: str, endpoint: str) -> dict[UsageKey, Usage]:
    query = f"SELECT {_WHO}, {_SUMS} FROM ({' UNION ALL '.join(parts)}) AS part WHERE {_NAMES} GROUP BY {_WHO}"
    rows = db.execute(text(query), {"namespace": namespace, "endpoint": endpoint})
    return {UsageKey(*row[:3]): Usage(*row[3:]) for row in rows}


def _found(
    db: Connection, pods: Sequence[OpenPod], requests: Sequence[Attempt], known: set[Key], *, whole: bool
) -> Found:
    keys = known | {(pod.namespace, pod.endpoint) for pod in pods}
    names = _pairs(keys)
    endpoints = _endpoints(db, names)
    floors: dict[str, list[Floor]] = {}
    uids = {"uids": [row.uid for rows in endpoints.values() for row in rows]}
    query = (
        "SELECT endpoint_uid, from_us, replicas, clock FROM floor WHERE endpoint_uid = ANY(:uids) ORDER BY generation"
    )
    for row in db.execute(text(query), uids):
        floors.setdefault(row[0], []).append(Floor(*row[1:]))
    return Found(pods, requests, facts_of(db, pods), endpoints, floors, _wakes(db, names) if whole else {})


_PAIRS = "SELECT * FROM unnest(CAST(:namespaces AS text[]), CAST(:names AS text[]))"


def _pairs(keys: Iterable[Key]) -> dict[str, list[str]]:
    """Return endpoints as the values of `_PAIRS`."""
    listed = list(keys)
    return {"namespaces": [key[0] for key in listed], "names": [key[1] for key in listed]}


def _endpoints(db: Connection, names: Mapping[str, Any]) -> dict[Key, list[EndpointRow]]:
    found: dict[Key, list[EndpointRow]] = {}
    query = (
        "SELECT namespace, name, uid, created_us, owner, request_timeout_us, cold_start, split FROM endpoint"
        f" WHERE (namespace, name) IN ({_PAIRS})"
    )
    for row in db.execute(text(query), names):
        found.setdefault((row[0], row[1]), []).append(EndpointRow(*row[2:]))
    return found


def _wakes(db: Connection, names: Mapping[str, Any]) -> dict[Key, list[Wake]]:
    found: dict[Key, list[Wake]] = {}
    query = (
        "SELECT endpoint_uid, wake_id, namespace, endpoint, time_us, cause, total_us, stages FROM wake"
        f" WHERE (namespace, endpoint) IN ({_PAIRS}) ORDER BY time_us"
    )
    for row in db.execute(text(query), names):
        stages = tuple((name, us) for name, us in json.loads(row[7]))
        found.setdefault((row[2], row[3]), []).append(Wake._make((*row[:7], stages)))
    return found
