"""Which adapter answered, and a function that takes records in, so that all of it is one question to the server."""

from __future__ import annotations

from alembic import op

revision = "0008"
down_revision = "0007"

_ATTEMPT = (
    "request_id, attempt, namespace, endpoint, consumer, pod_uid, cold, wake_id, forwarded_us, ended_us, outcome,"
    " input_tokens, cached_tokens, output_tokens, estimated, adapter"
)


def _added(table: str, other: str, first: int, last: int) -> str:
    """Return the statement that adds records and gives those that were new, as attempts with their other record.

    The other record is one that an earlier statement has added: what one statement adds, it does not see itself.
    """
    arrays = ", ".join(f"${place}" for place in range(first, last + 1))
    return f"""
            RETURN QUERY WITH fresh AS (
                INSERT INTO {table} SELECT * FROM unnest({arrays}) ON CONFLICT DO NOTHING RETURNING *
            ) SELECT {_ATTEMPT} FROM fresh LEFT JOIN {other} USING (request_id, attempt);"""


def upgrade() -> None:
    """Add them."""
    op.execute(
        f"""
        ALTER TABLE intent ADD COLUMN adapter text NOT NULL DEFAULT '';
        CREATE FUNCTION add_records(
            text[], integer[], text[], text[], text[], text[], integer[], text[], bigint[], text[], bigint[], text[],
            text[], integer[], bigint[], text[], bigint[], bigint[], bigint[], text[], bigint[], integer[]
        ) RETURNS TABLE (
            request_id text, attempt integer, namespace text, endpoint text, consumer text, pod_uid text, cold integer,
            wake_id text, forwarded_us bigint, ended_us bigint, outcome text, input_tokens bigint,
            cached_tokens bigint, output_tokens bigint, estimated integer, adapter text
        ) LANGUAGE plpgsql AS $$
        #variable_conflict use_column
        BEGIN
            IF cardinality($1) > 0 THEN {_added("intent", "settlement", 1, 12)}
            END IF;
            IF cardinality($13) > 0 THEN {_added("settlement", "intent", 13, 22)}
            END IF;
        END $$;
        """
    )
