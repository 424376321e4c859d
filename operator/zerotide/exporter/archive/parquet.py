"""Parquet files, written and read by DuckDB in this process.

DuckDB reads rows that come from Python one by one slowly, so they pass through a text file beside the one that is made.
It may touch nothing but the archive's folder and loads no extension.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from zerotide.billing.archives import CHARGES, REQUESTS, SEALS, SEGMENTS
from zerotide.billing.rating import Period
from zerotide.billing.rollups import Usage, UsageKey
from zerotide.exporter.archive.disk import PART
from zerotide.exporter.errors import ArchiveDamaged, ArchiveUnavailable

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

MEMORY = "256MB"
"""What DuckDB may take; it spills what is more into the archive's folder."""


class Table(NamedTuple):
    """The columns of a table with their types, and what its rows are ordered by, which makes files small."""

    columns: dict[str, str]
    order: str


TABLES = {
    REQUESTS: Table(
        {
            "request_id": "VARCHAR",
            "attempt": "INTEGER",
            "namespace": "VARCHAR",
            "endpoint": "VARCHAR",
            "consumer": "VARCHAR",
            "pod_uid": "VARCHAR",
            "cold": "INTEGER",
            "wake_id": "VARCHAR",
            "forwarded_us": "BIGINT",
            "ended_us": "BIGINT",
            "outcome": "VARCHAR",
            "input_tokens": "BIGINT",
            "cached_tokens": "BIGINT",
            "output_tokens": "BIGINT",
            "estimated": "INTEGER",
            "intent": "VARCHAR",
            "settlement": "VARCHAR",
        },
        "ended_us, request_id, attempt",
    ),
    SEGMENTS: Table(
        {
            "cluster": "VARCHAR",
            "pod_uid": "VARCHAR",
            "namespace": "VARCHAR",
            "endpoint": "VARCHAR",
            "pod": "VARCHAR",
            "node": "VARCHAR",
            "class_name": "VARCHAR",
            "units": "BIGINT",
            "parts": "BIGINT",
            "cpu_milli": "BIGINT",
            "memory_bytes": "BIGINT",
            "phase": "VARCHAR",
            "start_us": "BIGINT",
            "end_us": "BIGINT",
        },
        "namespace, endpoint, pod_uid, start_us",
    ),
    CHARGES: Table(
        {
            "bucket_us": "BIGINT",
            "of_us": "BIGINT",
            "namespace": "VARCHAR",
            "endpoint": "VARCHAR",
            "consumer": "VARCHAR",
            "meter": "VARCHAR",
            "class_name": "VARCHAR",
            "phase": "VARCHAR",
            "price": "VARCHAR",
            "units": "VARCHAR",
            "currency": "VARCHAR",
            "quantity": "VARCHAR",
            "amount": "VARCHAR",
        },
        "ALL",
    ),
    SEALS: Table(
        {
            "number": "BIGINT",
            "bucket_us": "BIGINT",
            "sealed_us": "BIGINT",
            "epoch": "BIGINT",
            "book": "VARCHAR",
            "previous": "VARCHAR",
            "hash": "VARCHAR",
        },
        "number",
    ),
}


def write(folder: Path, table: str, rows: Iterable[Sequence[Any]], part: Path) -> int:
    """Write rows as a Parquet file within a folder, return how many; without rows there is no file."""
    spec = TABLES[table]
    texts, number = part.with_suffix(f".csv{PART}"), 0
    with _guarded(folder):
        with texts.open("w", newline="", encoding="utf-8", errors="surrogatepass") as file:
            out = csv.writer(file, quoting=csv.QUOTE_ALL)
            for row in rows:
                out.writerow(row)
                number += 1
        if number:
            columns = ", ".join(f"'{name}': '{type_}'" for name, type_ in spec.columns.items())
            read = (
                f"read_csv(?, columns = {{{columns}}}, auto_detect = false, header = false, delim = ',', quote = '\"',"
                " escape = '\"', allow_quoted_nulls = false, parallel = false,"
                " hive_partitioning = false)"
            )
            made = f"SELECT * FROM {read} ORDER BY {spec.order}"
            with _connected(folder) as db:
                db.execute(f"COPY ({made}) TO {_quoted(part)} (FORMAT parquet, COMPRESSION zstd)", [str(texts)])
        texts.unlink()
    return number


def read(folder: Path, path: Path) -> list[tuple[Any, ...]]:
    """Return the rows of a file, in its order."""
    with _guarded(folder), _connected(folder) as db:
        return db.execute("SELECT * FROM read_parquet(?, hive_partitioning = false)", [str(path)]).fetchall()


def usage(folder: Path, paths: Sequence[Path], namespace: str, endpoint: str, period: Period) -> dict[UsageKey, Usage]:
    """Return what consumers used of endpoints (empty: any) within a period, from files of requests."""
    if not paths:
        return {}
    query = (
        "SELECT namespace, endpoint, consumer, count(*), sum(input_tokens), sum(cached_tokens), sum(output_tokens),"
        " sum(output_tokens * estimated) FROM read_parquet($paths) WHERE outcome <> 'lost' AND ended_us >= $low"
        " AND ended_us < $high AND ($namespace = '' OR namespace = $namespace)"
        " AND ($endpoint = '' OR endpoint = $endpoint) GROUP BY ALL"
    )
    values = {
        "paths": [str(path) for path in paths],
        "low": period.start_us,
        "high": period.end_us,
        "namespace": namespace,
        "endpoint": endpoint,
    }
    with _guarded(folder), _connected(folder) as db:
        rows = db.execute(query, values).fetchall()
    return {UsageKey(*row[:3]): Usage(*map(int, row[3:])) for row in rows}


@contextmanager
def _connected(folder: Path) -> Iterator[DuckDBPyConnection]:
    # 70 MB of program are loaded where they are used: an exporter without an archive never does.
    import duckdb

    settings: dict[str, str | bool | int | float | list[str]] = {
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
        "memory_limit": MEMORY,
        "temp_directory": str(folder / ".spill"),
        "preserve_insertion_order": True,
    }
    with duckdb.connect(":memory:", config=settings) as db:
        db.execute(f"SET allowed_directories = [{_quoted(folder)}]")
        db.execute("SET enable_external_access = false")
        db.execute("SET lock_configuration = true")
        yield db


@contextmanager
def _guarded(folder: Path) -> Iterator[None]:
    import duckdb

    try:
        yield
    except (duckdb.IOException, duckdb.OutOfMemoryException, OSError) as error:
        raise ArchiveUnavailable(f"{folder}: {error}: check the volume's space and health") from error
    except duckdb.Error as error:
        raise ArchiveDamaged(f"{folder}: {error}: is it an archive of this version?") from error


def _quoted(path: Path) -> str:
    return "'" + str(path).replace("'", "''") + "'"
