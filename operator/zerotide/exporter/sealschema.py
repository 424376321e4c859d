"""The tables of seals in a SQLite ledger.

`seal` and `charge` are appended to and nothing else. `sealing` says who seals (`epoch`) and up to where what comes is
late (`cut_us`). `late` collects whose sealed charges a record may change, and from which instant on: it is written by
triggers (of facts by `latefacts`), in the transaction that records it, so nothing is missed whatever dies in between.
A row that is there already is numbered anew, so that whoever has read it can tell. `reach` says how far back an attempt
matters: to when it was forwarded; for starts that are shared, to the birth of the pods that it shares in.
"""

from __future__ import annotations

_ROWS = """
    bucket_us INTEGER NOT NULL, of_us INTEGER NOT NULL, namespace TEXT NOT NULL, endpoint TEXT NOT NULL,
    consumer TEXT NOT NULL, meter TEXT NOT NULL, class_name TEXT NOT NULL, phase TEXT NOT NULL,
    price TEXT NOT NULL, units TEXT NOT NULL, currency TEXT NOT NULL, quantity TEXT NOT NULL, amount TEXT NOT NULL,
"""


def _append_only(table: str) -> str:
    return "".join(
        f"""
    CREATE TRIGGER {table}_no_{verb.lower()} BEFORE {verb} ON {table} BEGIN
        SELECT RAISE(ABORT, 'what is sealed never changes');
    END;"""
        for verb in ("UPDATE", "DELETE")
    )


def _noted(source: str) -> str:
    """Return the body of a trigger that notes (namespace, endpoint, since_us) of a query as late."""
    # How the outer statement treats conflicts would hold in here as well, so this has none.
    return f"BEGIN {'; '.join(noting(source))}; END;"


def noting(source: str) -> tuple[str, str]:
    """Return the two statements that note (namespace, endpoint, since_us) of a query as late."""
    return (
        f"UPDATE late SET number = number + 1 WHERE (namespace, endpoint, since_us) IN ({source})",
        f"INSERT INTO late SELECT *, 0 FROM ({source} EXCEPT SELECT namespace, endpoint, since_us FROM late)",
    )


def bucket(stamp: str) -> str:
    """Return the start of the quarter of an hour that a stamp lies in: notes are as many as buckets, at the most."""
    return f"{stamp} / 900000000 * 900000000"


_CUT = "(SELECT cut_us FROM sealing)"
_POD = "cluster = NEW.cluster AND pod_uid = NEW.pod_uid"
_ATTEMPT = "request_id = NEW.request_id AND attempt = NEW.attempt"
_RULE = "EXISTS (SELECT 1 FROM endpoint WHERE namespace = {0}.namespace AND name = {0}.endpoint AND cold_start {1})"
_REACH = f"SELECT DISTINCT namespace, endpoint, {bucket('since_us')} FROM reach WHERE {_ATTEMPT} AND since_us < {_CUT}"
# API stamps are whole seconds, so a pod may seem older than its wake by one.
_WAKE = f"""SELECT DISTINCT namespace, endpoint, {bucket("since_us")} FROM (
        SELECT NEW.namespace AS namespace, NEW.endpoint AS endpoint, NEW.time_us - 1000000 AS since_us
        UNION SELECT NEW.namespace, NEW.endpoint, pod.created_us
            FROM intent JOIN pod ON pod.pod_uid = intent.pod_uid WHERE wake_id = NEW.wake_id AND wake_id <> ''
    ) WHERE since_us < {_CUT}"""

SEALS = f"""
    CREATE TABLE seal (
        number INTEGER PRIMARY KEY, bucket_us INTEGER NOT NULL UNIQUE, sealed_us INTEGER NOT NULL,
        epoch INTEGER NOT NULL, book TEXT NOT NULL, previous TEXT NOT NULL UNIQUE, hash TEXT NOT NULL UNIQUE
    ) STRICT;
    CREATE TABLE charge ({_ROWS}
        PRIMARY KEY (bucket_us, of_us, namespace, endpoint, consumer, meter, class_name, phase, price, units, currency)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX charge_of ON charge (namespace, endpoint, of_us);
    CREATE TABLE book (digest TEXT PRIMARY KEY, spec TEXT NOT NULL) STRICT, WITHOUT ROWID;
    CREATE TABLE sealing (epoch INTEGER NOT NULL, cut_us INTEGER NOT NULL) STRICT;
    INSERT INTO sealing VALUES (0, 0);
    CREATE TABLE late (
        namespace TEXT NOT NULL, endpoint TEXT NOT NULL, since_us INTEGER NOT NULL, number INTEGER NOT NULL,
        PRIMARY KEY (namespace, endpoint, since_us)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX pod_by_uid ON pod (pod_uid);
    CREATE INDEX intent_of_wake ON intent (wake_id) WHERE wake_id <> '';
    {_append_only("seal")}{_append_only("charge")}
    CREATE TRIGGER seal_fenced BEFORE INSERT ON seal WHEN NEW.epoch <> (SELECT epoch FROM sealing) BEGIN
        SELECT RAISE(ABORT, 'another exporter seals since');
    END;

    CREATE VIEW reach AS
        SELECT request_id, attempt, namespace, endpoint, forwarded_us AS since_us FROM intent
        UNION ALL
        SELECT intent.request_id, intent.attempt, intent.namespace, intent.endpoint, pod.created_us
            FROM intent JOIN pod ON pod.pod_uid = intent.pod_uid WHERE {_RULE.format("intent", "= 'ProRata'")}
        UNION ALL
        SELECT intent.request_id, intent.attempt, intent.namespace, intent.endpoint, pod.created_us
            FROM intent JOIN intent AS same ON same.wake_id = intent.wake_id AND same.wake_id <> ''
            JOIN pod ON pod.pod_uid = same.pod_uid WHERE {_RULE.format("intent", "= 'Trigger'")};

    CREATE TRIGGER late_fact AFTER INSERT ON fact WHEN EXISTS (
        SELECT 1 FROM pod WHERE {_POD} AND created_us < {_CUT}
    ) {_noted(f"SELECT namespace, endpoint, {bucket('created_us')} FROM pod WHERE {_POD}")}
    CREATE TRIGGER late_pod AFTER INSERT ON pod WHEN NEW.created_us < {_CUT}
    {_noted(f"SELECT NEW.namespace, NEW.endpoint, {bucket('NEW.created_us')}")}
    CREATE TRIGGER late_intent AFTER INSERT ON intent
    WHEN NEW.forwarded_us < {_CUT} OR {_RULE.format("NEW", "<> 'Owner'")}
    {_noted(_REACH)}
    CREATE TRIGGER late_settlement AFTER INSERT ON settlement WHEN EXISTS (
        SELECT 1 FROM intent WHERE {_ATTEMPT} AND (forwarded_us < {_CUT} OR {_RULE.format("intent", "<> 'Owner'")})
    ) {_noted(_REACH)}
    CREATE TRIGGER late_endpoint AFTER INSERT ON endpoint WHEN {_CUT} > 0
    {_noted("SELECT NEW.namespace, NEW.name, 0")}
    CREATE TRIGGER late_rule AFTER UPDATE ON endpoint WHEN {_CUT} > 0 AND
        (OLD.owner, OLD.request_timeout_us, OLD.cold_start, OLD.split)
        <> (NEW.owner, NEW.request_timeout_us, NEW.cold_start, NEW.split)
    {_noted("SELECT NEW.namespace, NEW.name, 0")}
    CREATE TRIGGER late_floor AFTER INSERT ON floor WHEN NEW.from_us < {_CUT}
    {_noted(f"SELECT namespace, name, {bucket('NEW.from_us')} FROM endpoint WHERE uid = NEW.endpoint_uid")}
    CREATE TRIGGER late_floor_moved AFTER UPDATE ON floor WHEN NEW.from_us < OLD.from_us AND NEW.from_us < {_CUT}
    {_noted(f"SELECT namespace, name, {bucket('NEW.from_us')} FROM endpoint WHERE uid = NEW.endpoint_uid")}
    CREATE TRIGGER late_wake AFTER INSERT ON wake WHEN {_RULE.format("NEW", "= 'Trigger'")}
    {_noted(_WAKE)}
"""

_SUBJECT = "FROM subject JOIN pod USING (cluster, pod_uid) WHERE number = NEW.subject"
NUMBERED = f"""
    CREATE TABLE subject (
        number INTEGER PRIMARY KEY, cluster TEXT NOT NULL, pod_uid TEXT NOT NULL, UNIQUE (cluster, pod_uid)
    ) STRICT;
    INSERT INTO subject (cluster, pod_uid) SELECT DISTINCT cluster, pod_uid FROM fact;
    CREATE TABLE numbered (
        subject INTEGER NOT NULL, kind TEXT NOT NULL, key TEXT NOT NULL, t_us INTEGER NOT NULL,
        observed_us INTEGER NOT NULL, PRIMARY KEY (subject, kind, key, t_us)
    ) STRICT, WITHOUT ROWID;
    INSERT INTO numbered SELECT number, kind, key, t_us, observed_us
        FROM fact JOIN subject USING (cluster, pod_uid) ORDER BY number;
    DROP TABLE fact;
    ALTER TABLE numbered RENAME TO fact;
    CREATE VIEW known AS SELECT cluster, pod_uid, kind, key, t_us FROM subject JOIN fact ON subject = number;
    CREATE TRIGGER late_fact AFTER INSERT ON fact
    WHEN {_CUT} > 0 AND EXISTS (SELECT 1 {_SUBJECT} AND created_us < {_CUT})
    {_noted(f"SELECT namespace, endpoint, {bucket('created_us')} {_SUBJECT}")}
"""
"""Facts under the number of their pod, which is small and grows: by its random name writes are all over the file."""
