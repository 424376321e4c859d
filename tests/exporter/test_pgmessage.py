"""A transaction that begins with one message, on a real server."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import psycopg
import pytest
from psycopg.pq import ExecStatus, TransactionStatus
from psycopg.pq.abc import PGresult

from tests.exporter.pgserver import serving
from zerotide.exporter.pgmessage import begin_with, commit

ODD = ("", "'", "''", '"', "\\", "\\'", "a\nb", "ä€\U0001f600", "$1 %s :x", "'); DROP TABLE seen; --")


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """Run a PostgreSQL server that knows three functions."""
    with serving() as address:
        with psycopg.connect(address) as db:
            db.execute("CREATE TABLE seen (given text)")
            db.execute(
                "CREATE FUNCTION see(given text) RETURNS TABLE (given text, long integer, absent bigint) LANGUAGE sql"
                " AS 'INSERT INTO seen VALUES ($1) RETURNING given, length(given), CAST(NULL AS bigint)'"
            )
            db.execute("CREATE FUNCTION nobody() RETURNS SETOF seen LANGUAGE sql AS 'SELECT * FROM seen WHERE false'")
            db.execute("CREATE FUNCTION half(whole text) RETURNS integer LANGUAGE sql AS 'SELECT 1 / whole::integer'")
        yield address


@pytest.fixture
def driver(server: str) -> Iterator[psycopg.Connection[Any]]:
    """Connect to it."""
    with psycopg.connect(server) as db:
        yield db


def test_what_is_done_belongs_to_the_transaction_that_it_begins(driver: psycopg.Connection[Any], server: str) -> None:
    assert begin_with(driver, "SELECT 1", "see", ["kept"]) == [("kept", "4", None)]
    assert driver.info.transaction_status == TransactionStatus.INTRANS
    driver.rollback()
    begin_with(driver, "SELECT 1", "see", ["again"])
    with psycopg.connect(server) as other:
        mine = "SELECT given FROM seen WHERE given IN ('kept', 'again')"
        assert other.execute(mine).fetchall() == []
        commit(driver)
        assert driver.info.transaction_status.name == "IDLE"
        assert other.execute(mine).fetchall() == [("again",)]


@pytest.mark.parametrize("text", ODD)
@pytest.mark.parametrize("conforming", ["on", "off"])
def test_texts_arrive_to_the_letter(driver: psycopg.Connection[Any], text: str, conforming: str) -> None:
    driver.execute("SET escape_string_warning = off")
    driver.execute(f"SET standard_conforming_strings = {conforming}")
    driver.commit()
    assert begin_with(driver, "SELECT 1", "see", [text]) == [(text, str(len(text)), None)]


def test_what_is_absent_stays_so(driver: psycopg.Connection[Any]) -> None:
    assert begin_with(driver, "SELECT 1", "see", [None]) == [(None, None, None)]


def test_no_rows_are_an_empty_list(driver: psycopg.Connection[Any]) -> None:
    assert begin_with(driver, "SELECT 1", "nobody", []) == []


def test_a_text_with_a_nul_is_not_sent(driver: psycopg.Connection[Any]) -> None:
    with pytest.raises(psycopg.DataError, match="NUL"):
        begin_with(driver, "SELECT 1", "see", ["a\0b"])
    assert driver.info.transaction_status == TransactionStatus.IDLE


def test_what_the_server_refuses_is_raised_as_the_driver_names_it(driver: psycopg.Connection[Any]) -> None:
    with pytest.raises(psycopg.errors.DivisionByZero):
        begin_with(driver, "SELECT 1", "half", ["0"])
    driver.rollback()
    with pytest.raises(psycopg.errors.UndefinedFunction):
        begin_with(driver, "SELECT 1", "unknown", [])
    driver.rollback()
    with pytest.raises(psycopg.errors.UndefinedTable):
        begin_with(driver, "SELECT * FROM missing", "nobody", [])


def test_a_connection_that_is_cut_is_said_to_be(driver: psycopg.Connection[Any], server: str) -> None:
    with psycopg.connect(server) as other:
        other.execute("SELECT pg_terminate_backend(%s, 10000)", (driver.info.backend_pid,))
    with pytest.raises(psycopg.OperationalError, match=r"terminat|closed"):
        begin_with(driver, "SELECT 1", "nobody", [])
    assert driver.closed


def test_a_connection_that_is_cut_commits_nothing(driver: psycopg.Connection[Any], server: str) -> None:
    begin_with(driver, "SELECT 1", "see", ["cut"])
    with psycopg.connect(server) as other:
        other.execute("SELECT pg_terminate_backend(%s, 10000)", (driver.info.backend_pid,))
        with pytest.raises(psycopg.OperationalError, match=r"terminat|closed"):
            commit(driver)
        assert other.execute("SELECT * FROM seen WHERE given = 'cut'").fetchall() == []


class Broken:
    """A connection whose library tells that it broke before it calls it closed: it fails without a code."""

    closed = False

    def __init__(self, driver: psycopg.Connection[Any]) -> None:
        self.info, self.pgconn, self._driver = driver.info, self, driver

    def exec_(self, message: bytes) -> PGresult:
        return self._driver.pgconn.make_empty_result(ExecStatus.FATAL_ERROR)

    def get_error_message(self, encoding: str) -> str:
        return "server closed the connection unexpectedly"

    def close(self) -> None:
        self._driver.close()


def test_a_connection_that_broke_is_closed_and_no_fault_of_the_database(server: str) -> None:
    driver = psycopg.connect(server)
    with pytest.raises(psycopg.OperationalError, match="closed the connection unexpectedly"):
        commit(cast("psycopg.Connection[Any]", Broken(driver)))
    assert driver.closed
