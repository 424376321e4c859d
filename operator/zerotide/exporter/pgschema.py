"""Take a PostgreSQL ledger to the newest version, one exporter at a time."""

from __future__ import annotations

from importlib.resources import files

from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import Engine, text

from zerotide.exporter.errors import StoreTooNew

LOCK = 0x7A65726F
"""The key of the lock that whoever migrates, or adds to sums and counters, holds until its transaction ends."""


def migrate(engine: Engine) -> None:
    """Run the steps that are missing, in one transaction. Raises StoreTooNew for a ledger of a newer version."""
    config = Config()
    config.set_main_option("script_location", str(files("zerotide.exporter") / "migrations"))
    config.set_main_option("path_separator", "os")
    with engine.begin() as connection:
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": LOCK})
        config.attributes["connection"] = connection
        try:
            command.upgrade(config, "head")
        except CommandError as error:
            raise StoreTooNew(
                f"the ledger has a schema that this exporter does not know: {error}. Run the newer exporter again"
            ) from error
