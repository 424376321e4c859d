"""The tables of the ledger.

What differs from the SQLite ledger: pods are native uuids (text keys are several times slower), and a constraint
refuses two segments of one pod that overlap, so that an error in the fold fails where it is written.
"""

from __future__ import annotations

from alembic import op

revision = "0001"
down_revision = None

_FACT = """
    CREATE TABLE fact (
        cluster text NOT NULL, pod_uid uuid NOT NULL, kind text NOT NULL, key text NOT NULL, t_us bigint NOT NULL,
        observed_us bigint NOT NULL,
        PRIMARY KEY (pod_uid, kind, key, t_us, cluster)
    );
"""
"""What was seen of a pod's life."""
_POD = """
    CREATE TABLE pod (
        cluster text NOT NULL, pod_uid uuid NOT NULL, namespace text NOT NULL, endpoint text NOT NULL,
        created_us bigint NOT NULL, settled_us bigint NOT NULL DEFAULT 0, final boolean NOT NULL DEFAULT false,
        PRIMARY KEY (pod_uid, cluster)
    );
    CREATE INDEX pod_of_endpoint ON pod (namespace, endpoint, created_us);
    CREATE INDEX pod_not_final ON pod (cluster) WHERE NOT final;
"""
"""Pods, and how far each is settled."""
_SEGMENT = """
    CREATE TABLE segment (
        cluster text NOT NULL, pod_uid uuid NOT NULL, span int8range NOT NULL, phase text NOT NULL,
        EXCLUDE USING gist (pod_uid WITH =, span WITH &&)
    );
"""
"""What a pod did, from when to when."""
_INTENT = """
    CREATE TABLE intent (
        request_id text NOT NULL, attempt integer NOT NULL, namespace text NOT NULL, endpoint text NOT NULL,
        consumer text NOT NULL, pod_uid text NOT NULL, cold integer NOT NULL, wake_id text NOT NULL,
        forwarded_us bigint NOT NULL, record text NOT NULL, received_us bigint NOT NULL,
        PRIMARY KEY (request_id, attempt)
    );
    CREATE INDEX intent_of_pod ON intent (pod_uid, forwarded_us);
"""
"""Requests as they are handed to a replica."""
_SETTLEMENT = """
    CREATE TABLE settlement (
        request_id text NOT NULL, attempt integer NOT NULL, ended_us bigint NOT NULL, outcome text NOT NULL,
        input_tokens bigint NOT NULL, cached_tokens bigint NOT NULL, output_tokens bigint NOT NULL,
        record text NOT NULL, received_us bigint NOT NULL, estimated integer NOT NULL,
        PRIMARY KEY (request_id, attempt)
    );
    CREATE INDEX settlement_by_end ON settlement (ended_us);
"""
"""How requests ended, and what they used."""
_USAGE_SUM = """
    CREATE TABLE usage_sum (
        span_us bigint NOT NULL, start_us bigint NOT NULL, namespace text NOT NULL, endpoint text NOT NULL,
        consumer text NOT NULL, requests bigint NOT NULL, input bigint NOT NULL, cached bigint NOT NULL,
        output bigint NOT NULL, estimated bigint NOT NULL,
        PRIMARY KEY (span_us, start_us, namespace, endpoint, consumer)
    );
"""
"""Tokens and requests of a span of time, by who pays."""
_REFUSED = """
    CREATE TABLE refused (
        digest text PRIMARY KEY, line bytea NOT NULL, error text NOT NULL, received_us bigint NOT NULL
    );
"""
"""Lines that no ledger can hold."""
_ENDPOINT = """
    CREATE TABLE endpoint (
        uid text PRIMARY KEY, namespace text NOT NULL, name text NOT NULL, created_us bigint NOT NULL,
        owner text NOT NULL, request_timeout_us bigint NOT NULL, cold_start text NOT NULL, split text NOT NULL
    );
    CREATE INDEX endpoint_by_name ON endpoint (namespace, name);
"""
"""Endpoints, and by which rules they are billed."""
_FLOOR = """
    CREATE TABLE floor (
        endpoint_uid text NOT NULL, generation bigint NOT NULL, replicas integer NOT NULL, from_us bigint NOT NULL,
        PRIMARY KEY (endpoint_uid, generation)
    );
"""
"""Replicas that an endpoint keeps whatever the demand."""
_WAKE = """
    CREATE TABLE wake (
        endpoint_uid text NOT NULL, wake_id text NOT NULL, namespace text NOT NULL, endpoint text NOT NULL,
        time_us bigint NOT NULL, cause text NOT NULL, total_us bigint NOT NULL, stages text NOT NULL,
        PRIMARY KEY (endpoint_uid, wake_id)
    );
    CREATE INDEX wake_of_endpoint ON wake (namespace, endpoint, time_us);
"""
"""Cold starts as the operator tells them."""
_SERIES = """
    CREATE TABLE series (
        name text NOT NULL, labels text NOT NULL, value text NOT NULL, PRIMARY KEY (name, labels)
    );
"""
"""Counters that outlive the process."""
_CONSUMER = """
    CREATE TABLE consumer (name text PRIMARY KEY, last_us bigint NOT NULL);
"""
"""Consumers that have series of their own, and when each was seen last."""

_TABLES = (
    _FACT,
    _POD,
    _SEGMENT,
    _INTENT,
    _SETTLEMENT,
    _USAGE_SUM,
    _REFUSED,
    _ENDPOINT,
    _FLOOR,
    _WAKE,
    _SERIES,
    _CONSUMER,
)


def upgrade() -> None:
    """Make them."""
    op.execute("CREATE EXTENSION IF NOT EXISTS btree_gist")
    for table in _TABLES:
        op.execute(table)
