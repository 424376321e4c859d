"""Floors that the clock moves: one that is told late, as after an upgrade, changes what is sealed."""

from __future__ import annotations

from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Add the column."""
    op.execute(
        """
        ALTER TABLE floor ADD COLUMN clock text NOT NULL DEFAULT '';
        CREATE FUNCTION late_floor_clock() RETURNS trigger LANGUAGE plpgsql AS $$
        DECLARE cut bigint := (SELECT cut_us FROM sealing);
        BEGIN
            INSERT INTO late AS kept SELECT DISTINCT namespace, name, fresh.from_us, 0
                FROM fresh JOIN was USING (endpoint_uid, generation) JOIN endpoint ON uid = endpoint_uid
                WHERE fresh.clock <> was.clock AND fresh.from_us < cut ORDER BY 1, 2, 3
                ON CONFLICT (namespace, endpoint, since_us) DO UPDATE SET number = kept.number + 1;
            RETURN NULL;
        END $$;
        CREATE TRIGGER late_floor_clock AFTER UPDATE ON floor REFERENCING OLD TABLE AS was NEW TABLE AS fresh
            FOR EACH STATEMENT EXECUTE FUNCTION late_floor_clock();
        """
    )
