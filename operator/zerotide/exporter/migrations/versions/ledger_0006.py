"""Quota slices: what activators have reserved of budgets."""

from __future__ import annotations

from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Add the table."""
    op.execute(
        """
        CREATE TABLE hold (
            namespace text NOT NULL, budget text NOT NULL, pod text NOT NULL, process text NOT NULL,
            born_us bigint NOT NULL, number bigint NOT NULL, amount bigint NOT NULL, until_us bigint NOT NULL,
            PRIMARY KEY (namespace, budget, pod, process, born_us)
        );
        """
    )
