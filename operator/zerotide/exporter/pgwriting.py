"""Write to a PostgreSQL ledger, within a transaction that the store has begun."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from typing import Any, NamedTuple

import psycopg
from sqlalchemy import Connection, text

from zerotide.api.scalars import HOUR
from zerotide.api.usage import AnyRecord, Intent, Settlement, Unrecorded
from zerotide.billing.rollups import SPANS, Usage, UsageKey, contributions
from zerotide.billing.usage import Attempt
from zerotide.exporter.consumers import OTHER, PLACES
from zerotide.exporter.pgmessage import begin_with
from zerotide.exporter.pgschema import LOCK
from zerotide.exporter.store import DayKey, Series, Settled, unrecorded_row

_INTENT = (
    *("request_id", "attempt", "namespace", "endpoint", "consumer", "pod_uid", "cold", "wake_id", "forwarded_us"),
    *("record", "received_us", "adapter"),
)
_SETTLEMENT = (
    *("request_id", "attempt", "ended_us", "outcome", "input_tokens", "cached_tokens", "output_tokens"),
    *("record", "received_us", "estimated"),
)


class Added(NamedTuple):
    """How many records were new, and the attempts that are complete since: each is among those of one statement."""

    number: int
    complete: list[Attempt]


def array(values: Iterable[object]) -> str:
    """Return values as PostgreSQL writes an array of them; none may be absent.

    The driver takes lists, too, but its quoting of each value took two fifths of the time to write facts.
    """
    texts = [str(value) for value in values]
    escaped = [text_.replace("\\", "\\\\").replace('"', '\\"') for text_ in texts]
    return '{"' + '","'.join(escaped) + '"}' if escaped else "{}"


def add_segments(db: Connection, pods: Iterable[Settled]) -> None:
    """Write the segments of pods that are over, instead of any that were there."""
    over = [pod for pod in pods if pod.segments]
    if not over:
        return
    db.execute(
        text("DELETE FROM segment WHERE pod_uid = ANY(CAST(:uids AS uuid[]))"),
        {"uids": array(pod.pod_uid for pod in over)},
    )
    rows = [(pod.cluster, pod.pod_uid, *segment) for pod in over for segment in pod.segments]
    db.execute(
        text(
            "INSERT INTO segment SELECT cluster, uid, int8range(low, high), phase"
            " FROM unnest(CAST(:clusters AS text[]), CAST(:uids AS uuid[]), CAST(:lows AS bigint[]),"
            " CAST(:highs AS bigint[]), CAST(:phases AS text[])) AS made (cluster, uid, low, high, phase)"
        ),
        dict(zip(("clusters", "uids", "lows", "highs", "phases"), map(array, zip(*rows, strict=True)), strict=True)),
    )


def move(db: Connection, pods: Sequence[Settled]) -> bool:
    """Note how far pods are counted; False when one of them was counted meanwhile: then roll back."""
    query = text(
        "UPDATE pod SET settled_us = high, final = over FROM unnest(CAST(:clusters AS text[]), CAST(:uids AS uuid[]),"
        " CAST(:lows AS bigint[]), CAST(:highs AS bigint[]), CAST(:overs AS boolean[]))"
        " AS moved (its_cluster, its_uid, low, high, over)"
        " WHERE cluster = its_cluster AND pod_uid = its_uid AND settled_us = low AND NOT final"
    )
    values = {
        "clusters": array(pod.cluster for pod in pods),
        "uids": array(pod.pod_uid for pod in pods),
        "lows": array(pod.from_us for pod in pods),
        "highs": array(pod.until_us for pod in pods),
        "overs": array(pod.final for pod in pods),
    }
    return db.execute(query, values).rowcount == len(pods)


def add_records(db: Connection, records: Sequence[AnyRecord], received_us: int) -> Added:
    """Begin the transaction, take the lock that keeps sums right, and record intents and settlements.

    All of it is one message to the server and one answer: each of its own would cost as long again as the disk does.
    Raises psycopg.Error.
    """
    arguments = (_rows(_INTENT, _intents(records, received_us)), _rows(_SETTLEMENT, _settlements(records, received_us)))
    ((begun, begun_complete, ended, ended_complete),) = begin_with(driver_of(db), _LOCK, "add_records", arguments)
    complete = [Attempt(*row) for rows in (begun_complete, ended_complete) if rows for row in json.loads(rows)]
    return Added(int(begun or 0) + int(ended or 0), complete)


def driver_of(db: Connection) -> psycopg.Connection[tuple[Any, ...]]:
    """Return the driver's own connection, in the transaction that has begun."""
    driver = db.connection.driver_connection
    assert isinstance(driver, psycopg.Connection)
    return driver


def _rows(columns: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> str | None:
    """Return rows as JSON, None for none."""
    return json.dumps([dict(zip(columns, row, strict=True)) for row in rows], ensure_ascii=False) if rows else None


def _intents(records: Iterable[AnyRecord], received_us: int) -> list[tuple[Any, ...]]:
    return [
        (
            record.request_id,
            record.attempt,
            record.namespace,
            record.endpoint,
            record.consumer,
            record.pod_uid,
            int(record.cold),
            record.wake_id,
            record.forwarded_us,
            record.model_dump_json(by_alias=True),
            received_us,
            record.adapter,
        )
        for record in records
        if isinstance(record, Intent)
    ]


def _settlements(records: Iterable[AnyRecord], received_us: int) -> list[tuple[Any, ...]]:
    rows: list[tuple[Any, ...]] = []
    for record in records:
        if isinstance(record, Settlement):
            tokens = record.tokens
            counts = (tokens.input, tokens.cached, tokens.output) if tokens else (0, 0, 0)
            estimated = int(tokens is not None and tokens.estimated)
            text_ = record.model_dump_json(by_alias=True)
            key, end = (record.request_id, record.attempt), (record.ended_us, record.outcome.value)
            rows.append((*key, *end, *counts, text_, received_us, estimated))
    return rows


def add_unrecorded(db: Connection, records: Iterable[AnyRecord], received_us: int) -> int:
    """Record what was served and not recorded, and return how many of these records were new."""
    rows = [(*unrecorded_row(each), received_us) for each in records if isinstance(each, Unrecorded)]
    return sum(
        db.execute(_ADD_UNRECORDED, {f"c{place}": value for place, value in enumerate(row)}).rowcount for row in rows
    )


_LOCK = f"SELECT pg_advisory_xact_lock({LOCK})"
_ADD_UNRECORDED = text(
    f"INSERT INTO unrecorded VALUES ({', '.join(f':c{place}' for place in range(8))}) ON CONFLICT DO NOTHING"
)


def add_sums(db: Connection, attempts: Iterable[Attempt]) -> None:
    """Add attempts that have just become complete to the sums of usage."""
    found: dict[tuple[int, int, UsageKey], Usage] = {}
    for key, ended_us, usage in contributions(attempts):
        for span in SPANS:
            place = (span, ended_us // span * span, key)
            found[place] = found.get(place, Usage()).plus(usage)
    query = text(
        "INSERT INTO usage_sum AS kept VALUES (:span, :start, :namespace, :endpoint, :consumer, :requests, :input,"
        " :cached, :output, :estimated) ON CONFLICT (span_us, start_us, namespace, endpoint, consumer) DO UPDATE SET"
        " requests = kept.requests + excluded.requests, input = kept.input + excluded.input,"
        " cached = kept.cached + excluded.cached, output = kept.output + excluded.output,"
        " estimated = kept.estimated + excluded.estimated"
    )
    rows = [
        {"span": span, "start": start, **key._asdict(), **usage._asdict()}
        for (span, start, key), usage in found.items()
    ]
    if rows:
        db.execute(query, rows)


def label(db: Connection, name: str, now_us: int) -> str:
    """Return the label of a consumer; a new one takes a free place, or that of one idle for an hour."""
    values = {"name": name, "now": now_us, "idle": now_us - HOUR}
    if db.execute(text("UPDATE consumer SET last_us = greatest(last_us, :now) WHERE name = :name"), values).rowcount:
        return name
    taken = db.execute(text("SELECT count(*) FROM consumer")).scalar_one()
    vacate = (
        "DELETE FROM consumer WHERE name = (SELECT name FROM consumer WHERE last_us <= :idle"
        " ORDER BY last_us, name LIMIT 1)"
    )
    if taken >= PLACES and not db.execute(text(vacate), values).rowcount:
        return OTHER
    db.execute(text("INSERT INTO consumer VALUES (:name, :now)"), values)
    return name


def add_to_series(db: Connection, increments: Mapping[Series, Fraction]) -> None:
    """Add to counters."""
    for (name, labels), increment in increments.items():
        key = {"name": name, "labels": json.dumps(labels)}
        known = db.execute(text("SELECT value FROM series WHERE name = :name AND labels = :labels"), key).scalar()
        value = str(increment + (Fraction(known) if known else 0))
        db.execute(
            text(
                "INSERT INTO series VALUES (:name, :labels, :value)"
                " ON CONFLICT (name, labels) DO UPDATE SET value = excluded.value"
            ),
            {**key, "value": value},
        )


def add_costs(db: Connection, costs: Mapping[DayKey, Fraction]) -> None:
    """Add to the costs of days."""
    where = "namespace = :namespace AND endpoint = :endpoint AND day_us = :day_us AND currency = :currency"
    for key, amount in costs.items():
        values = key._asdict()
        known = db.execute(text(f"SELECT amount FROM cost_sum WHERE {where}"), values).scalar()
        db.execute(
            text(
                "INSERT INTO cost_sum VALUES (:namespace, :endpoint, :day_us, :currency, :amount)"
                " ON CONFLICT (namespace, endpoint, day_us, currency) DO UPDATE SET amount = excluded.amount"
            ),
            {**values, "amount": str(amount + (Fraction(known) if known else 0))},
        )
