"""The tables of the SQLite ledger, version by version.

`PRAGMA user_version` counts the steps that a file has been through. A step, once released, is never edited: a change
is a new step.
"""

from __future__ import annotations

import sqlite3

from zerotide.exporter.errors import StoreTooNew
from zerotide.exporter.sealschema import NUMBERED, SEALS

STEPS: tuple[str, ...] = (
    """
    CREATE TABLE fact (
        cluster TEXT NOT NULL, pod_uid TEXT NOT NULL, kind TEXT NOT NULL, key TEXT NOT NULL, t_us INTEGER NOT NULL,
        observed_us INTEGER NOT NULL,
        PRIMARY KEY (cluster, pod_uid, kind, key, t_us)
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE pod (
        cluster TEXT NOT NULL, pod_uid TEXT NOT NULL, namespace TEXT NOT NULL, endpoint TEXT NOT NULL,
        created_us INTEGER NOT NULL, settled_us INTEGER NOT NULL DEFAULT 0, final INTEGER NOT NULL DEFAULT 0,
        PRIMARY KEY (cluster, pod_uid)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX pod_of_endpoint ON pod (namespace, endpoint, created_us);
    CREATE INDEX pod_not_final ON pod (final) WHERE final = 0;

    CREATE TABLE intent (
        request_id TEXT NOT NULL, attempt INTEGER NOT NULL, namespace TEXT NOT NULL, endpoint TEXT NOT NULL,
        consumer TEXT NOT NULL, pod_uid TEXT NOT NULL, cold INTEGER NOT NULL, wake_id TEXT NOT NULL,
        forwarded_us INTEGER NOT NULL, record TEXT NOT NULL, received_us INTEGER NOT NULL,
        PRIMARY KEY (request_id, attempt)
    ) STRICT;
    CREATE INDEX intent_of_pod ON intent (pod_uid, forwarded_us);
    CREATE INDEX intent_of_endpoint ON intent (namespace, endpoint, forwarded_us);

    CREATE TABLE settlement (
        request_id TEXT NOT NULL, attempt INTEGER NOT NULL, ended_us INTEGER NOT NULL, outcome TEXT NOT NULL,
        input_tokens INTEGER NOT NULL, cached_tokens INTEGER NOT NULL, output_tokens INTEGER NOT NULL,
        record TEXT NOT NULL, received_us INTEGER NOT NULL,
        PRIMARY KEY (request_id, attempt)
    ) STRICT;

    CREATE TABLE refused (
        digest TEXT NOT NULL PRIMARY KEY, line BLOB NOT NULL, error TEXT NOT NULL, received_us INTEGER NOT NULL
    ) STRICT;

    CREATE TABLE endpoint (
        uid TEXT NOT NULL PRIMARY KEY, namespace TEXT NOT NULL, name TEXT NOT NULL, created_us INTEGER NOT NULL,
        owner TEXT NOT NULL, request_timeout_us INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX endpoint_by_name ON endpoint (namespace, name);

    CREATE TABLE floor (
        endpoint_uid TEXT NOT NULL, generation INTEGER NOT NULL, replicas INTEGER NOT NULL, from_us INTEGER NOT NULL,
        PRIMARY KEY (endpoint_uid, generation)
    ) STRICT;

    CREATE TABLE wake (
        endpoint_uid TEXT NOT NULL, wake_id TEXT NOT NULL, namespace TEXT NOT NULL, endpoint TEXT NOT NULL,
        time_us INTEGER NOT NULL, cause TEXT NOT NULL, total_us INTEGER NOT NULL, stages TEXT NOT NULL,
        PRIMARY KEY (endpoint_uid, wake_id)
    ) STRICT;
    CREATE INDEX wake_of_endpoint ON wake (namespace, endpoint, time_us);

    CREATE TABLE series (
        name TEXT NOT NULL, labels TEXT NOT NULL, value TEXT NOT NULL,
        PRIMARY KEY (name, labels)
    ) STRICT;
    """,
    # Tokens are counted by consumer, the 500 largest so far by their names; reports find requests by their end.
    """
    CREATE TABLE consumer (name TEXT NOT NULL PRIMARY KEY, last_us INTEGER NOT NULL) STRICT, WITHOUT ROWID;
    INSERT INTO consumer SELECT consumer, max(settlement.received_us)
        FROM intent JOIN settlement USING (request_id, attempt) WHERE outcome <> 'lost'
        GROUP BY consumer ORDER BY sum(input_tokens + output_tokens) DESC, consumer LIMIT 500;

    DELETE FROM series WHERE name = 'tokens';
    INSERT INTO series SELECT 'tokens',
        '[' || json_quote(namespace) || ', ' || json_quote(endpoint) || ', '
            || json_quote(coalesce(consumer.name, '_other')) || ', ' || json_quote(type) || ']',
        CAST(sum(number) AS TEXT)
        FROM (
            SELECT *, 'input' AS type, input_tokens - cached_tokens AS number FROM settlement
            UNION ALL SELECT *, 'cached_input', cached_tokens FROM settlement
            UNION ALL SELECT *, 'output', output_tokens FROM settlement
        ) JOIN intent USING (request_id, attempt) LEFT JOIN consumer ON consumer.name = intent.consumer
        WHERE outcome <> 'lost' GROUP BY 2 HAVING sum(number) > 0;

    CREATE INDEX settlement_by_end ON settlement (ended_us);
    """,
    # Tokens of streams that were cut are counted by the activator, and told apart.
    """
    ALTER TABLE settlement ADD COLUMN estimated INTEGER NOT NULL DEFAULT 0;
    """,
    # Who pays for starts, and how requests in flight share a replica.
    """
    ALTER TABLE endpoint ADD COLUMN cold_start TEXT NOT NULL DEFAULT 'Owner';
    ALTER TABLE endpoint ADD COLUMN split TEXT NOT NULL DEFAULT 'Equal';
    """,
    # Sums of usage by day and quarter of an hour, kept in the transaction that makes an attempt complete.
    """
    CREATE TABLE usage_sum (
        span_us INTEGER NOT NULL, start_us INTEGER NOT NULL, namespace TEXT NOT NULL, endpoint TEXT NOT NULL,
        consumer TEXT NOT NULL, requests INTEGER NOT NULL, input INTEGER NOT NULL, cached INTEGER NOT NULL,
        output INTEGER NOT NULL, estimated INTEGER NOT NULL,
        PRIMARY KEY (span_us, start_us, namespace, endpoint, consumer)
    ) STRICT, WITHOUT ROWID;
    INSERT INTO usage_sum SELECT span.us, ended_us / span.us * span.us, namespace, endpoint, consumer, count(*),
            sum(input_tokens), sum(cached_tokens), sum(output_tokens), sum(output_tokens * estimated)
        FROM (SELECT 900000000 AS us UNION ALL SELECT 86400000000) AS span,
            settlement JOIN intent USING (request_id, attempt)
        WHERE outcome <> 'lost' GROUP BY 1, 2, 3, 4, 5;
    """,
    # What settled time cost by day of UTC, kept in the transaction that settles it.
    """
    CREATE TABLE cost_sum (
        namespace TEXT NOT NULL, endpoint TEXT NOT NULL, day_us INTEGER NOT NULL, currency TEXT NOT NULL,
        amount TEXT NOT NULL,
        PRIMARY KEY (namespace, endpoint, day_us, currency)
    ) STRICT, WITHOUT ROWID;
    """,
    # Sealed charges, and what comes late to them.
    SEALS,
    # Floors that the clock moves. One that is told late, as after an upgrade, changes what is sealed.
    """
    ALTER TABLE floor ADD COLUMN clock TEXT NOT NULL DEFAULT '';
    CREATE TRIGGER late_floor_clock AFTER UPDATE ON floor
    WHEN NEW.clock <> OLD.clock AND NEW.from_us < (SELECT cut_us FROM sealing) BEGIN
        UPDATE late SET number = number + 1 WHERE (namespace, endpoint, since_us) IN
            (SELECT namespace, name, NEW.from_us FROM endpoint WHERE uid = NEW.endpoint_uid);
        INSERT INTO late SELECT namespace, name, NEW.from_us, 0 FROM endpoint WHERE uid = NEW.endpoint_uid
            AND NOT EXISTS (SELECT 1 FROM late WHERE namespace = endpoint.namespace AND endpoint = endpoint.name
                AND since_us = NEW.from_us);
    END;
    """,
    # Sums of time by day and quarter of an hour, kept in the transaction that seals it. A sum is written as an exact
    # fraction, or as several with plus signs between them.
    """
    CREATE TABLE time_sum (
        span_us INTEGER NOT NULL, start_us INTEGER NOT NULL, namespace TEXT NOT NULL, endpoint TEXT NOT NULL,
        meter TEXT NOT NULL, class_name TEXT NOT NULL, phase TEXT NOT NULL, quantity TEXT NOT NULL,
        PRIMARY KEY (span_us, start_us, namespace, endpoint, meter, class_name, phase)
    ) STRICT, WITHOUT ROWID;
    INSERT INTO time_sum SELECT span.us, of_us / span.us * span.us, namespace, endpoint, meter, class_name, phase,
            group_concat(quantity, '+')
        FROM (SELECT 900000000 AS us UNION ALL SELECT 86400000000) AS span, charge
        WHERE meter IN ('AcceleratorTime', 'CPUTime', 'MemoryTime') GROUP BY 1, 2, 3, 4, 5, 6, 7;
    """,
    # Quota slices: what activators have reserved of budgets.
    """
    CREATE TABLE hold (
        namespace TEXT NOT NULL, budget TEXT NOT NULL, pod TEXT NOT NULL, process TEXT NOT NULL,
        born_us INTEGER NOT NULL, number INTEGER NOT NULL, amount INTEGER NOT NULL, until_us INTEGER NOT NULL,
        PRIMARY KEY (namespace, budget, pod, process, born_us)
    ) STRICT, WITHOUT ROWID;
    """,
    # How many attempts were served while activators could record nothing.
    """
    CREATE TABLE unrecorded (
        id TEXT NOT NULL PRIMARY KEY, namespace TEXT NOT NULL, endpoint TEXT NOT NULL, consumer TEXT NOT NULL,
        requests INTEGER NOT NULL, from_us INTEGER NOT NULL, to_us INTEGER NOT NULL, received_us INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX unrecorded_by_end ON unrecorded (to_us);
    """,
    # Facts by their pod's number.
    NUMBERED,
    # Which adapter of its model answered a request.
    """
    ALTER TABLE intent ADD COLUMN adapter TEXT NOT NULL DEFAULT '';
    """,
    # Facts that come late are noted by who adds them, once for each delivery.
    """
    DROP TRIGGER late_fact;
    """,
)


def migrate(connection: sqlite3.Connection, steps: tuple[str, ...] = STEPS) -> None:
    """Take a ledger to the newest version, each step in a transaction of its own.

    Raises StoreTooNew for a file that has been through more steps than this version knows.
    """
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > len(steps):
        raise StoreTooNew(
            f"the ledger has schema version {version}, this exporter knows {len(steps)}: run the newer exporter again"
        )
    for number, step in enumerate(steps[version:], version + 1):
        connection.executescript(f"BEGIN IMMEDIATE;{step};PRAGMA user_version = {number};COMMIT;")
