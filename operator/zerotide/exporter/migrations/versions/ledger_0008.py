"""Which adapter answered, and a function that takes records in, so that all of it is one question to the server."""

from __future__ import annotations

from alembic import op

revision = "0008"
down_revision = "0007"

_ATTEMPT = (
    "request_id, attempt, namespace, endpoint, consumer, pod_uid, cold, wake_id, forwarded_us, ended_us, outcome,"
    " input_tokens, cached_tokens, output_tokens, estimated, adapter"
)


def _added(table: str, other: str, place: int, number: str, complete: str) -> str:
    """Return the statement that adds records, counts those that were new, and gives the attempts that are complete.

    The other record is one that an earlier statement has added: what one statement adds, it does not see itself.
    """
    return f"""
            IF ${place} IS NOT NULL THEN
                WITH fresh AS (
                    INSERT INTO {table} SELECT * FROM json_populate_recordset(NULL::{table}, ${place})
                    ON CONFLICT DO NOTHING RETURNING *
                ) SELECT count(*), json_agg(json_build_array({_ATTEMPT}))
                    FILTER (WHERE namespace IS NOT NULL AND ended_us IS NOT NULL) INTO {number}, {complete}
                    FROM fresh LEFT JOIN {other} USING (request_id, attempt);
            END IF;"""


def upgrade() -> None:
    """Add them; a table for a result, or an array for each column, took the server as long again as the records."""
    op.execute(
        f"""
        ALTER TABLE intent ADD COLUMN adapter text NOT NULL DEFAULT '';
        CREATE FUNCTION add_records(
            json, json, OUT begun bigint, OUT begun_complete json, OUT ended bigint, OUT ended_complete json
        ) LANGUAGE plpgsql AS $$
        BEGIN {_added("intent", "settlement", 1, "begun", "begun_complete")}
            {_added("settlement", "intent", 2, "ended", "ended_complete")}
        END $$;
        """
    )
