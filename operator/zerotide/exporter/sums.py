"""Sums in a SQLite ledger: usage, kept with the requests that it is of, and what days cost, kept with the counters."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping
from fractions import Fraction
from typing import Any

from zerotide.billing.rating import Period
from zerotide.billing.rollups import DAY, QUARTER, SPANS, Usage, UsageKey, contributions, cover
from zerotide.billing.usage import Attempt
from zerotide.exporter.store import DayKey

_WHO = "namespace, endpoint, consumer"
_SUMS = "sum(requests), sum(input), sum(cached), sum(output), sum(estimated)"
_RAW = (
    f"SELECT {_WHO}, 1 AS requests, input_tokens AS input, cached_tokens AS cached, output_tokens AS output,"
    " output_tokens * estimated AS estimated FROM settlement JOIN intent USING (request_id, attempt)"
    " WHERE outcome <> 'lost' AND ended_us >= ? AND ended_us < ?"
)
_KEPT = f"SELECT {_WHO}, requests, input, cached, output, estimated FROM usage_sum WHERE span_us = ?"


def add(db: sqlite3.Connection, attempts: Iterable[Attempt]) -> None:
    """Count attempts that have just become complete; to be called within the transaction that made them so."""
    found: dict[tuple[int, int, UsageKey], Usage] = {}
    for key, ended_us, usage in contributions(attempts):
        for span in SPANS:
            place = (span, ended_us // span * span, key)
            found[place] = found.get(place, Usage()).plus(usage)
    db.executemany(
        "INSERT INTO usage_sum VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
        " ON CONFLICT DO UPDATE SET requests = requests + excluded.requests, input = input + excluded.input,"
        " cached = cached + excluded.cached, output = output + excluded.output,"
        " estimated = estimated + excluded.estimated",
        [(span, start, *key, *usage) for (span, start, key), usage in found.items()],
    )


def usage(db: sqlite3.Connection, namespace: str, endpoint: str, period: Period) -> dict[UsageKey, Usage]:
    """Return usage within a period: whole days, quarters at the ends, and what they leave from the requests."""
    parts: list[str] = []
    values: list[Any] = []
    covered = cover(period)
    for span, whole in ((DAY, covered.days), *((QUARTER, quarter) for quarter in covered.quarters)):
        parts.append(f"{_KEPT} AND start_us >= ? AND start_us < ?")
        values += [span, *whole]
    for rest in covered.rests:
        parts.append(_RAW)
        values += rest
    return _summed(db, parts, values, namespace, endpoint)


def usage_raw(db: sqlite3.Connection, namespace: str, endpoint: str, period: Period) -> dict[UsageKey, Usage]:
    """Return usage within a period from the requests themselves."""
    return _summed(db, [_RAW], [*period], namespace, endpoint)


def ended(db: sqlite3.Connection, period: Period) -> dict[int, int]:
    """Return how many requests ended on each day."""
    query = "SELECT ended_us / ?1 * ?1, count(*) FROM settlement WHERE ended_us >= ?2 AND ended_us < ?3 GROUP BY 1"
    return dict(db.execute(query, (DAY, *period)))


def delivered(db: sqlite3.Connection, period: Period) -> dict[int, int]:
    """Return how many requests of each day are in the sums."""
    query = (
        "SELECT start_us, sum(requests) FROM usage_sum WHERE span_us = ? AND start_us >= ? AND start_us < ? GROUP BY 1"
    )
    return dict(db.execute(query, (DAY, *period)))


def add_costs(db: sqlite3.Connection, costs: Mapping[DayKey, Fraction]) -> None:
    """Add to the costs of days; to be called within the transaction that settles the time that they are of."""
    where = "namespace = ? AND endpoint = ? AND day_us = ? AND currency = ?"
    for key, amount in costs.items():
        known = db.execute(f"SELECT amount FROM cost_sum WHERE {where}", key).fetchone()
        value = str(amount + (Fraction(known[0]) if known else 0))
        db.execute("INSERT OR REPLACE INTO cost_sum VALUES (?, ?, ?, ?, ?)", (*key, value))


def costs(db: sqlite3.Connection, namespace: str, endpoint: str, since_us: int) -> dict[DayKey, Fraction]:
    """Return what settled time cost, by day, from the day of an instant on."""
    wanted = [(column, value) for column, value in (("namespace", namespace), ("endpoint", endpoint)) if value]
    where = "".join(f" AND {column} = ?" for column, _ in wanted)
    rows = db.execute(
        f"SELECT namespace, endpoint, day_us, currency, amount FROM cost_sum WHERE day_us >= ?{where}",
        (since_us // DAY * DAY, *(value for _, value in wanted)),
    )
    return {DayKey(*row[:4]): Fraction(row[4]) for row in rows}


def _summed(
    db: sqlite3.Connection, parts: list[str], values: list[Any], namespace: str, endpoint: str
) -> dict[UsageKey, Usage]:
    wanted = [(column, value) for column, value in (("namespace", namespace), ("endpoint", endpoint)) if value]
    where = " AND ".join(["1 = 1", *(f"{column} = ?" for column, _ in wanted)])
    query = f"SELECT {_WHO}, {_SUMS} FROM ({' UNION ALL '.join(parts)}) WHERE {where} GROUP BY {_WHO}"
    rows = db.execute(query, (*values, *(value for _, value in wanted)))
    return {UsageKey(*row[:3]): Usage(*row[3:]) for row in rows}
