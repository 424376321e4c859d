"""What an exporter is told: flags, each with an environment variable as its default."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from zerotide.api.egress import Egress
from zerotide.api.names import (
    PORT_ADMIN,
    SERVICE_ACCOUNT_ACTIVATOR,
    SERVICE_ACCOUNT_OPERATOR,
    SYSTEM_NAMESPACE,
    service_account_user,
)
from zerotide.exporter.errors import SettingsError
from zerotide.exporter.otlp import PATH
from zerotide.kube.options import Flags


@dataclass(frozen=True)
class Settings:
    """How one exporter runs. `prices` None means the price file that ships with the package, `archive` None no archive.

    `namespace` is where its Lease is, and `identity` its name there.
    """

    listen: str
    port: int
    ledger: Path
    database: str
    archive: Path | None
    prices: Path | None
    price_book: str
    cluster: str
    activator_user: str
    operator_user: str
    settle_lag_us: int
    settle_interval_us: int
    otlp_endpoint: str
    otlp_headers: Mapping[str, str]
    otlp_interval_us: int
    seal_grace_us: int
    egress: Egress
    egress_ca_file: Path | None
    namespace: str
    identity: str
    log_format: str
    log_level: str


def parse(arguments: Sequence[str] | None = None, environment: Mapping[str, str] = os.environ) -> Settings:
    """Read flags and environment. Raises SettingsError; exits for --help and for unknown flags as argparse does."""
    namespace = environment.get("POD_NAMESPACE") or SYSTEM_NAMESPACE
    about = "Meter the replicas of endpoints and answer what they cost."
    flags = Flags("zerotide.exporter", about, environment, SettingsError)
    flags.add("listen", "0.0.0.0", "address to listen on")
    flags.add("port", str(PORT_ADMIN), "port to listen on, 0 for any free one")
    flags.add("ledger", "/var/lib/zerotide/ledger.sqlite", "file of the ledger, on a volume that outlives the pod")
    flags.add("database", "", "PostgreSQL to keep the ledger in, as postgresql://user@host/name; empty for the file")
    flags.add("archive", "", "folder that closed days are written to as Parquet; empty for no archive")
    flags.add("prices", "", "price file, a PriceBook in YAML; empty for the one that ships with Zerotide")
    flags.add("price-book", "default", "PriceBook of the cluster that replaces the price file once it is there")
    flags.add("cluster", "local", "name of the cluster in the ledger's keys; never change it for a ledger")
    user = service_account_user(namespace, SERVICE_ACCOUNT_ACTIVATOR)
    flags.add("activator-user", user, "user that may deliver usage records")
    operator = service_account_user(namespace, SERVICE_ACCOUNT_OPERATOR)
    flags.add("operator-user", operator, "user that is told what every endpoint costs")
    flags.add("settle-lag", "30s", "age at which time is counted in the metrics")
    flags.add("settle-interval", "5s", "time between counts")
    flags.add("otlp-endpoint", "", "OpenTelemetry collector to send metrics to, as http://host:4318; empty for none")
    flags.add("otlp-headers", "", "headers for the collector, as name=value, with commas between them")
    flags.add("otlp-interval", "60s", "time between pushes to the collector")
    flags.add("seal-grace", "1h", "time after the end of a quarter of an hour at which its charges are sealed")
    flags.add("egress-allow", "", "comma-separated CIDR blocks that webhooks may lead to, beside public addresses")
    flags.add("egress-ca-file", "", "file of authorities that webhooks may be certified by, beside the system's")
    given = flags.read(arguments)
    if not given.text("cluster"):
        raise SettingsError("--cluster must not be empty")
    return Settings(
        listen=given.text("listen"),
        port=given.number("port"),
        ledger=Path(given.text("ledger")),
        database=_database(given.text("database")),
        archive=given.path("archive"),
        prices=given.path("prices"),
        price_book=given.text("price-book"),
        cluster=given.text("cluster"),
        activator_user=given.text("activator-user"),
        operator_user=given.text("operator-user"),
        settle_lag_us=given.duration_us("settle-lag"),
        settle_interval_us=given.duration_us("settle-interval"),
        otlp_endpoint=_collector(given.text("otlp-endpoint")),
        otlp_headers=_headers(given.text("otlp-headers")),
        otlp_interval_us=given.duration_us("otlp-interval"),
        seal_grace_us=given.duration_us("seal-grace"),
        egress=given.egress("egress-allow"),
        egress_ca_file=given.path("egress-ca-file"),
        namespace=namespace,
        identity=environment.get("POD_NAME") or f"{socket.gethostname()}-{os.getpid()}",
        log_format=given.log_format,
        log_level=given.log_level,
    )


def _collector(text: str) -> str:
    if text and not text.startswith(("http://", "https://")):
        raise SettingsError(f"--otlp-endpoint {text!r}: give an http or https address, without /v1/metrics, or nothing")
    return text.rstrip("/").removesuffix(PATH)


def _headers(text: str) -> dict[str, str]:
    pairs = [pair.partition("=") for pair in text.split(",") if pair.strip()]
    if not all(name.strip() and equals for name, equals, _ in pairs):
        # A header may hold a secret, so it is not repeated.
        raise SettingsError("--otlp-headers must be name=value, with commas between them")
    return {name.strip(): value.strip() for name, _, value in pairs}


def _database(text: str) -> str:
    if text and not text.startswith(("postgresql://", "postgres://")):
        # The text may hold a password, so it is not repeated.
        raise SettingsError("--database must be an address as psql takes it: postgresql://user:password@host:5432/name")
    return text
