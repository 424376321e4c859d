"""Open the ledger that the settings name."""

from __future__ import annotations

from zerotide.exporter.settings import Settings
from zerotide.exporter.sqlite import SQLiteStore
from zerotide.exporter.store import Store


def open_store(settings: Settings) -> Store:
    """Return the ledger in PostgreSQL where an address is given, else the one in a file. Raises StoreError."""
    if settings.database:
        # Imported where it is used: SQLAlchemy and Alembic would cost the embedded ledger a second and 40 MB.
        from zerotide.exporter.postgres import PostgresStore

        return PostgresStore(settings.database)
    return SQLiteStore(settings.ledger)
