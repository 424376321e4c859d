"""What an activator is told: flags, each with an environment variable as its default."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from zerotide.activator import holding, wire_settings
from zerotide.activator.admission.hall import Caps
from zerotide.activator.failures import SettingsError
from zerotide.activator.usage.backlog import Bounds
from zerotide.activator.wire import Limits
from zerotide.activator.wire_settings import Fronts
from zerotide.api.egress import Egress
from zerotide.api.names import (
    PORT_ADMIN,
    PORT_COUNCIL,
    PORT_GATEWAY,
    SERVICE_ACCOUNT_ACTIVATOR,
    SERVICE_ACCOUNT_OPERATOR,
    SERVICE_EXPORTER,
    SYSTEM_NAMESPACE,
    service_account_user,
)
from zerotide.api.scalars import SECOND
from zerotide.kube.options import Flags, Given


@dataclass(frozen=True)
class Settings:
    """How one activator runs; times in seconds. An empty `exporter_url` or `usage_dir` records no usage."""

    listen: str
    port: int
    admin_port: int
    pod_name: str
    pod_namespace: str
    operator_user: str
    exporter_url: str
    exporter_token_file: Path | None
    usage_dir: Path | None
    usage_bounds: Bounds
    drain_listen: float
    drain_timeout: float
    max_endpoints: int
    processes: int
    limits: Limits
    fronts: Fronts
    hold_caps: Caps
    council_port: int
    council_token_file: Path | None
    council_user: str
    egress: Egress
    egress_ca_file: Path | None
    log_format: str
    log_level: str


def parse(arguments: Sequence[str] | None = None, environment: Mapping[str, str] = os.environ) -> Settings:
    """Read flags and environment. Raises SettingsError; exits for --help and for unknown flags as argparse does."""
    about = "Authenticate, hold, route and count requests to model endpoints."
    flags = Flags("zerotide.activator", about, environment, SettingsError)
    _declare(flags, environment.get("POD_NAMESPACE") or SYSTEM_NAMESPACE)
    return _settings(flags.read(arguments))


def _declare(flags: Flags, namespace: str) -> None:
    flags.add("listen", "0.0.0.0", "address to listen on")
    flags.add("port", str(PORT_GATEWAY), "port for requests, 0 for any free one")
    flags.add("admin-port", str(PORT_ADMIN), "port for health, metrics and demand, 0 for any free one")
    flags.add("pod-name", socket.gethostname(), "name of this activator, unique among them", "POD_NAME")
    flags.add("pod-namespace", namespace, "namespace of the activators", "POD_NAMESPACE")
    operator = service_account_user(namespace, SERVICE_ACCOUNT_OPERATOR)
    flags.add("operator-user", operator, "user that may read the demand stream")
    exporter = f"http://{SERVICE_EXPORTER}.{namespace}.svc:{PORT_ADMIN}"
    flags.add("exporter-url", exporter, "exporter that takes usage records; `none` keeps them in the log")
    flags.add("exporter-token-file", "", "file of the token for the exporter; empty sends none")
    flags.add("usage-dir", "", "folder of the usage log; empty records no usage")
    flags.add("usage-max-bytes", "768Mi", "most bytes of records that wait for the exporter")
    flags.add("usage-max-records", "2000000", "most records that wait for the exporter")
    old = "age of the oldest such record from which on endpoints with billing.onLedgerFailure: Deny refuse requests"
    flags.add("usage-max-age", "1h", old)
    flags.add("drain-listen", "10s", "time after SIGTERM for which new connections are taken at least")
    flags.add("drain-timeout", "15m", "longest time after SIGTERM for which requests are finished")
    flags.add("max-endpoints", "1000", "endpoints with metrics of their own")
    flags.add("processes", "1", "processes that serve requests, one per core asked for")
    wire_settings.declare(flags)
    wire_settings.declare_fronts(flags)
    holding.add_flags(flags)
    flags.add("council-port", str(PORT_COUNCIL), "port for other activators, 0 for any free one")
    file = "file of the token for other activators; empty talks to none, and keeps to shares of the bounds"
    flags.add("council-token-file", "", file)
    own = service_account_user(namespace, SERVICE_ACCOUNT_ACTIVATOR)
    flags.add("council-user", own, "user that other activators are")
    flags.add("egress-allow", "", "comma-separated CIDR blocks that users' URLs may lead to, beside public addresses")
    flags.add("egress-ca-file", "", "file of authorities that users' URLs may be certified by, beside the system's")


def _settings(given: Given) -> Settings:
    exporter = "" if given.text("exporter-url") == "none" else given.text("exporter-url").rstrip("/")
    if exporter and not exporter.startswith(("http://", "https://")):
        raise SettingsError(f"--exporter-url {exporter!r}: give an http or https address, or none")
    return Settings(
        listen=given.text("listen"),
        port=given.number("port"),
        admin_port=given.number("admin-port"),
        pod_name=given.text("pod-name"),
        pod_namespace=given.text("pod-namespace"),
        operator_user=given.text("operator-user"),
        exporter_url=exporter,
        exporter_token_file=given.path("exporter-token-file"),
        usage_dir=given.path("usage-dir"),
        usage_bounds=Bounds(
            given.size("usage-max-bytes"),
            given.number("usage-max-records", 1_000_000_000, least=1),
            max(given.duration_us("usage-max-age"), 1),
        ),
        drain_listen=given.duration_us("drain-listen") / SECOND,
        drain_timeout=given.duration_us("drain-timeout") / SECOND,
        max_endpoints=given.number("max-endpoints", 100_000),
        processes=given.number("processes", 64, least=1),
        limits=wire_settings.limits_of(given),
        fronts=wire_settings.fronts_of(given),
        hold_caps=holding.caps_of(given),
        council_port=given.number("council-port"),
        council_token_file=given.path("council-token-file"),
        council_user=given.text("council-user"),
        egress=given.egress("egress-allow"),
        egress_ca_file=given.path("egress-ca-file"),
        log_format=given.log_format,
        log_level=given.log_level,
    )
