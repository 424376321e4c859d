"""How many attempts were served while activators could record nothing."""

from __future__ import annotations

from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Add the table."""
    op.execute(
        """
        CREATE TABLE unrecorded (
            id text NOT NULL PRIMARY KEY, namespace text NOT NULL, endpoint text NOT NULL, consumer text NOT NULL,
            requests bigint NOT NULL, from_us bigint NOT NULL, to_us bigint NOT NULL, received_us bigint NOT NULL
        );
        CREATE INDEX unrecorded_by_end ON unrecorded (to_us);
        """
    )
