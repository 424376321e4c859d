"""Sealed charges, and what comes late to them: the tables that `sealschema` explains.

Facts come by the thousand, so what is late is noted once for each statement. Whoever announces waits for the writers
that have begun, and lets none begin meanwhile: a record is either in what is read afterwards, or noted as late.
"""

from __future__ import annotations

from alembic import op

revision = "0003"
down_revision = "0002"

_UUID = "CASE WHEN {0}.pod_uid ~ '^[0-9a-fA-F-]{{36}}$' THEN CAST({0}.pod_uid AS uuid) END"
_RULE = "EXISTS (SELECT 1 FROM endpoint AS e WHERE e.namespace = {0}.namespace AND e.name = {0}.endpoint"
_ATTEMPT = "SELECT {0}.request_id, {0}.attempt, {0}.namespace, {0}.endpoint"


def _noted(name: str, source: str) -> str:
    """Return a function of a trigger that notes (namespace, endpoint, since_us) of a query as late."""
    return f"""
        CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS $$
        DECLARE cut bigint := (SELECT cut_us FROM sealing);
        BEGIN
            IF cut > 0 THEN
                INSERT INTO late AS kept SELECT DISTINCT namespace, endpoint, since_us / 900000000 * 900000000, 0
                    FROM ({source}) AS found (namespace, endpoint, since_us) WHERE since_us < cut ORDER BY 1, 2, 3
                    ON CONFLICT (namespace, endpoint, since_us) DO UPDATE SET number = kept.number + 1;
            END IF;
            RETURN NULL;
        END $$;
    """


def _trigger(table: str, name: str, source: str, when: str = "INSERT", tables: str = "NEW TABLE AS fresh") -> str:
    return _noted(name, source) + (
        f"CREATE TRIGGER {name} AFTER {when} ON {table} REFERENCING {tables} FOR EACH STATEMENT"
        f" EXECUTE FUNCTION {name}();"
    )


_TABLES = """
        CREATE TABLE seal (
            number bigint PRIMARY KEY, bucket_us bigint NOT NULL UNIQUE, sealed_us bigint NOT NULL,
            epoch bigint NOT NULL, book text NOT NULL, previous text NOT NULL UNIQUE, hash text NOT NULL UNIQUE
        );
        CREATE TABLE charge (
            bucket_us bigint NOT NULL, of_us bigint NOT NULL, namespace text NOT NULL, endpoint text NOT NULL,
            consumer text NOT NULL, meter text NOT NULL, class_name text NOT NULL, phase text NOT NULL,
            price text NOT NULL, units text NOT NULL, currency text NOT NULL, quantity text NOT NULL,
            amount text NOT NULL,
            PRIMARY KEY (
                bucket_us, of_us, namespace, endpoint, consumer, meter, class_name, phase, price, units, currency
            )
        );
        CREATE INDEX charge_of ON charge (namespace, endpoint, of_us);
        CREATE TABLE book (digest text PRIMARY KEY, spec text NOT NULL);
        CREATE TABLE sealing (epoch bigint NOT NULL, cut_us bigint NOT NULL);
        INSERT INTO sealing VALUES (0, 0);
        CREATE TABLE late (
            namespace text NOT NULL, endpoint text NOT NULL, since_us bigint NOT NULL, number bigint NOT NULL,
            PRIMARY KEY (namespace, endpoint, since_us)
        );
        CREATE INDEX intent_of_wake ON intent (wake_id) WHERE wake_id <> '';

"""
_GUARDS = """\
        CREATE FUNCTION sealed_stays() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN RAISE EXCEPTION 'what is sealed never changes' USING ERRCODE = 'ZT001'; END $$;
        CREATE TRIGGER seal_stays BEFORE UPDATE OR DELETE OR TRUNCATE ON seal
            FOR EACH STATEMENT EXECUTE FUNCTION sealed_stays();
        CREATE TRIGGER charge_stays BEFORE UPDATE OR DELETE OR TRUNCATE ON charge
            FOR EACH STATEMENT EXECUTE FUNCTION sealed_stays();
        CREATE FUNCTION seal_fenced() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            -- The row's lock makes whoever claims an epoch wait until what was sealed in the last one is committed.
            IF NEW.epoch <> (SELECT epoch FROM sealing FOR SHARE) THEN
                RAISE EXCEPTION 'another exporter seals since' USING ERRCODE = 'ZT002';
            END IF;
            RETURN NEW;
        END $$;
        CREATE TRIGGER seal_fenced BEFORE INSERT ON seal FOR EACH ROW EXECUTE FUNCTION seal_fenced();

"""
_REACH = f"""\
        CREATE VIEW reach AS
            SELECT request_id, attempt, namespace, endpoint, forwarded_us AS since_us FROM intent
            UNION ALL
            {_ATTEMPT.format("i")}, pod.created_us FROM intent AS i
                JOIN pod ON pod.pod_uid = {_UUID.format("i")} WHERE {_RULE.format("i")} AND e.cold_start = 'ProRata')
            UNION ALL
            {_ATTEMPT.format("i")}, pod.created_us FROM intent AS i
                JOIN intent AS same ON same.wake_id = i.wake_id AND same.wake_id <> ''
                JOIN pod ON pod.pod_uid = {_UUID.format("same")}
                WHERE {_RULE.format("i")} AND e.cold_start = 'Trigger');
        """


def _of_replicas() -> str:
    """Return the triggers of what is known of replicas and of the requests that they served."""
    return (
        _trigger(
            "fact", "late_fact", "SELECT namespace, endpoint, created_us FROM pod JOIN fresh USING (pod_uid, cluster)"
        )
        + _trigger("pod", "late_pod", "SELECT namespace, endpoint, created_us FROM fresh")
        + "".join(
            _trigger(
                table,
                f"late_{table}",
                "SELECT found.namespace, found.endpoint, found.since_us FROM reach AS found"
                " JOIN fresh USING (request_id, attempt)",
            )
            for table in ("intent", "settlement")
        )
    )


def _of_rules() -> str:
    """Return the triggers of the rules by which endpoints are billed."""
    return (
        _trigger("endpoint", "late_endpoint", "SELECT namespace, name, CAST(0 AS bigint) FROM fresh")
        + _trigger(
            "endpoint",
            "late_rule",
            "SELECT fresh.namespace, fresh.name, CAST(0 AS bigint) FROM fresh JOIN was USING (uid)"
            " WHERE (fresh.owner, fresh.request_timeout_us, fresh.cold_start, fresh.split)"
            " <> (was.owner, was.request_timeout_us, was.cold_start, was.split)",
            "UPDATE",
            "OLD TABLE AS was NEW TABLE AS fresh",
        )
        + _trigger(
            "floor",
            "late_floor",
            "SELECT namespace, name, from_us FROM fresh JOIN endpoint ON uid = endpoint_uid",
        )
        + _trigger(
            "floor",
            "late_floor_moved",
            "SELECT namespace, name, fresh.from_us FROM fresh JOIN was USING (endpoint_uid, generation)"
            " JOIN endpoint ON uid = endpoint_uid WHERE fresh.from_us < was.from_us",
            "UPDATE",
            "OLD TABLE AS was NEW TABLE AS fresh",
        )
    )


def _of_wakes() -> str:
    """Return the trigger of wakes, which may say who pays for a start."""
    return _trigger(
        "wake",
        "late_wake",
        # API stamps are whole seconds, so a pod may seem older than its wake by one.
        f"SELECT w.namespace, w.endpoint, w.time_us - 1000000 FROM fresh AS w WHERE {_RULE.format('w')}"
        " AND e.cold_start = 'Trigger')"
        " UNION SELECT w.namespace, w.endpoint, pod.created_us FROM fresh AS w"
        " JOIN intent AS i ON i.wake_id = w.wake_id AND i.wake_id <> ''"
        f" JOIN pod ON pod.pod_uid = {_UUID.format('i')} WHERE {_RULE.format('w')} AND e.cold_start = 'Trigger')",
    )


def upgrade() -> None:
    """Make them."""
    op.execute(_TABLES + _GUARDS + _REACH + _of_replicas() + _of_rules() + _of_wakes())
