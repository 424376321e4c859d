"""Begin a transaction on a PostgreSQL server with one message and one answer, however many statements it has.

What a driver does around each statement costs as long as the server takes to add a record, and each answer that is
waited for a way to the server and back. So the arguments are texts in the message, quoted by the server's own library.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import psycopg
from psycopg.errors import error_from_result
from psycopg.pq import DiagnosticField, Escaping, ExecStatus
from psycopg.pq.abc import PGresult


def begin_with(
    driver: psycopg.Connection[Any], before: str, function: str, arguments: Sequence[str | None]
) -> list[tuple[str | None, ...]]:
    """Begin a transaction with a statement and a call of a function; return the rows of the call as texts.

    Raises psycopg.Error.
    """
    encoding = driver.info.encoding
    texts = [b"NULL" if each is None else _quoted(driver, each.encode(encoding)) for each in arguments]
    message = b"BEGIN; %b; SELECT * FROM %b(%b)" % (before.encode(), function.encode(), b", ".join(texts))
    result = _done(driver, message, ExecStatus.TUPLES_OK)
    columns = range(result.nfields)
    return [
        tuple(
            None if (value := result.get_value(row, column)) is None else value.decode(encoding) for column in columns
        )
        for row in range(result.ntuples)
    ]


def commit(driver: psycopg.Connection[Any]) -> None:
    """Commit a transaction of which nothing has failed. Raises psycopg.Error."""
    _done(driver, b"COMMIT", ExecStatus.COMMAND_OK)


def _done(driver: psycopg.Connection[Any], message: bytes, status: ExecStatus) -> PGresult:
    result = driver.pgconn.exec_(message)
    if result.status == status and not driver.closed:
        return result
    # What a server says has a code. A connection that broke has none, and the library may not call it closed yet.
    if driver.closed or result.error_field(DiagnosticField.SQLSTATE) is None:
        told = driver.pgconn.get_error_message(driver.info.encoding)
        driver.close()
        raise psycopg.OperationalError(told)
    raise error_from_result(result, encoding=driver.info.encoding)


def _quoted(driver: psycopg.Connection[Any], text: bytes) -> bytes:
    if 0 in text:
        raise psycopg.DataError("PostgreSQL text fields cannot hold NUL (0x00) bytes")
    return Escaping(driver.pgconn).escape_literal(text)
