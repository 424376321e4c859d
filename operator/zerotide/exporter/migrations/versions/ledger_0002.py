"""What settled time cost by day of UTC."""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Make the table."""
    op.execute(
        """
        CREATE TABLE cost_sum (
            namespace text NOT NULL, endpoint text NOT NULL, day_us bigint NOT NULL, currency text NOT NULL,
            amount text NOT NULL, PRIMARY KEY (namespace, endpoint, day_us, currency)
        )
        """
    )
