"""Begin a transaction on a PostgreSQL server with one message and one answer, however many statements it has.

What a driver does around each statement costs as long as the server takes to add a record, and each answer that is
waited for a way to the server and back. So the arguments are texts in the message, quoted by the server's own library.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import psycopg
from psycopg.errors import error_from_result
from psycopg.pq import Escaping, ExecStatus

_INTEGERS = frozenset((20, 21, 23))
"""The types of the server that are integers."""


def begin_with(
    driver: psycopg.Connection[Any], before: str, function: str, arguments: Sequence[str]
) -> list[tuple[Any, ...]]:
    """Begin a transaction with a statement and a call of a function; return the rows of the call.

    They hold texts, integers and None. Raises psycopg.Error.
    """
    server, encoding = driver.pgconn, driver.info.encoding
    escape = Escaping(server).escape_literal
    texts = [argument.encode(encoding) for argument in arguments]
    if any(0 in text for text in texts):
        raise psycopg.DataError("PostgreSQL text fields cannot hold NUL (0x00) bytes")
    call = b"SELECT * FROM %b(%b)" % (function.encode(), b", ".join(map(escape, texts)))
    result = server.exec_(b"BEGIN; %b; %b" % (before.encode(), call))
    if driver.closed:
        raise psycopg.OperationalError(server.get_error_message(encoding))
    if result.status != ExecStatus.TUPLES_OK:
        raise error_from_result(result, encoding=encoding)
    columns = range(result.nfields)
    whole = [result.ftype(column) in _INTEGERS for column in columns]
    return [
        tuple(_value(result.get_value(row, column), whole[column], encoding) for column in columns)
        for row in range(result.ntuples)
    ]


def _value(value: bytes | None, whole: bool, encoding: str) -> str | int | None:
    if value is None:
        return None
    return int(value) if whole else value.decode(encoding)
