"""What only a ledger in a database can do or suffer: its server dies, it refuses overlaps, it is another one."""

from __future__ import annotations

import pytest
from sqlalchemy import create_engine, text

from e2e.postgres import Database
from tests.billing.worlds import T0
from tests.exporter.test_stores import WAKE, emptied, lived, pair, server, uid
from zerotide.billing.fold import Phase, Segment
from zerotide.exporter.errors import StoreDamaged, StoreTooNew, StoreUnavailable
from zerotide.exporter.postgres import PostgresStore
from zerotide.exporter.store import Settled

__all__ = ["server"]


def test_a_database_that_died_is_used_again_once_it_is_back() -> None:
    """By what goes to the driver past SQLAlchemy, too: a record that was not acknowledged is there once."""
    with Database() as server:
        store = PostgresStore(server.address)
        assert store.add_usage(pair(1), [], T0) == 2
        server.kill()
        for number in (2, 1):
            with pytest.raises(StoreUnavailable, match="check that the database is up"):
                store.add_usage(pair(number), [], T0)
        server.start()
        assert store.add_usage([*pair(1), *pair(2)], [], T0) == 2
        assert [each.request_id for each in store.attempts()] == ["1", "2"]
        store.close()


def test_overlapping_segments_cannot_be_written(server: str) -> None:
    address = emptied(server)
    store = PostgresStore(address)
    store.add_facts(lived(scheduled=0, finished=9), T0)

    def over(*segments: Segment) -> Settled:
        return Settled("c", uid("u1"), 0, T0 + 9, True, segments)

    with pytest.raises(StoreDamaged, match="two segments of a pod overlap"):
        store.settle([over(Segment(T0, T0 + 5, Phase.LOADING), Segment(T0 + 4, T0 + 9, Phase.ACTIVE))], {}, {})
    assert store.unsettled(), "nothing of the transaction is left"
    assert store.settle([over(Segment(T0, T0 + 5, Phase.LOADING), Segment(T0 + 5, T0 + 9, Phase.ACTIVE))], {}, {})
    engine = create_engine(address.replace("postgresql://", "postgresql+psycopg://"))
    with engine.connect() as db:
        rows = [tuple(row) for row in db.execute(text("SELECT upper(span) - lower(span), phase FROM segment"))]
    assert sorted(rows) == [(4, "active"), (5, "loading")]
    engine.dispose()
    store.close()


def test_what_is_wrong_with_a_database_is_said(server: str) -> None:
    with pytest.raises(StoreUnavailable, match="check that the database is up"):
        PostgresStore("postgresql://zerotide:secret@/x?host=/nonexistent&connect_timeout=5")
    address = emptied(server)
    store = PostgresStore(address)
    engine = create_engine(address.replace("postgresql://", "postgresql+psycopg://"))
    with engine.begin() as db:
        db.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(StoreTooNew, match="Run the newer exporter"):
        PostgresStore(address)
    with engine.begin() as db:
        db.execute(text("DROP TABLE wake"))
    with pytest.raises(StoreDamaged, match="is it a ledger of this version"):
        store.add_wake(WAKE)
    engine.dispose()
    store.close()


def test_no_password_is_in_what_is_said() -> None:
    with pytest.raises(StoreUnavailable) as caught:
        PostgresStore("postgresql://zerotide:hunter2@/x?host=/nonexistent&connect_timeout=5")
    assert "hunter2" not in str(caught.value)
