"""Sums of time by day and quarter of an hour, kept in the transaction that seals it; first those of what is sealed."""

from __future__ import annotations

from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Make the table. A sum is written as an exact fraction, or as several with plus signs between them."""
    op.execute(
        """
        CREATE TABLE time_sum (
            span_us bigint NOT NULL, start_us bigint NOT NULL, namespace text NOT NULL, endpoint text NOT NULL,
            meter text NOT NULL, class_name text NOT NULL, phase text NOT NULL, quantity text NOT NULL,
            PRIMARY KEY (span_us, start_us, namespace, endpoint, meter, class_name, phase)
        );
        INSERT INTO time_sum SELECT span.us, of_us / span.us * span.us, namespace, endpoint, meter, class_name, phase,
                string_agg(quantity, '+')
            FROM (VALUES (900000000), (86400000000)) AS span (us), charge
            WHERE meter IN ('AcceleratorTime', 'CPUTime', 'MemoryTime') GROUP BY 1, 2, 3, 4, 5, 6, 7;
        """
    )
