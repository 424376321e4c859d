"""What an exporter is told: flags, each with an environment variable as its default."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from zerotide.api.failures import InvalidDuration
from zerotide.api.names import PORT_ADMIN, SERVICE_ACCOUNT_ACTIVATOR, SYSTEM_NAMESPACE, service_account_user
from zerotide.api.scalars import parse_duration
from zerotide.exporter.errors import SettingsError

LEVELS = ("debug", "info", "warning", "error")


@dataclass(frozen=True)
class Settings:
    """How one exporter runs. `prices` None means the price file that ships with the package."""

    listen: str
    port: int
    ledger: Path
    prices: Path | None
    cluster: str
    activator_user: str
    settle_lag_us: int
    settle_interval_us: int
    log_format: str
    log_level: str


def parse(arguments: Sequence[str] | None = None, environment: Mapping[str, str] = os.environ) -> Settings:
    """Read flags and environment. Raises SettingsError; exits for --help and for unknown flags as argparse does."""
    namespace = environment.get("POD_NAMESPACE") or SYSTEM_NAMESPACE
    parser = argparse.ArgumentParser(
        prog="python -m zerotide.exporter",
        description="Meter the replicas of endpoints and answer what they cost.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )

    def flag(name: str, default: str, text: str) -> None:
        variable = "ZEROTIDE_" + name.upper().replace("-", "_")
        parser.add_argument(f"--{name}", default=environment.get(variable) or default, help=f"{text} [{variable}]")

    flag("listen", "0.0.0.0", "address to listen on")
    flag("port", str(PORT_ADMIN), "port to listen on, 0 for any free one")
    flag("ledger", "/var/lib/zerotide/ledger.sqlite", "file of the ledger, on a volume that outlives the pod")
    flag("prices", "", "price file, a PriceBook in YAML; empty for the one that ships with Zerotide")
    flag("cluster", "local", "name of the cluster in the ledger's keys; never change it for a ledger")
    flag(
        "activator-user",
        service_account_user(namespace, SERVICE_ACCOUNT_ACTIVATOR),
        "user that may deliver usage records",
    )
    flag("settle-lag", "30s", "age at which time is counted in the metrics")
    flag("settle-interval", "5s", "time between counts")
    flag("log-format", "json", "json, or text for people")
    flag("log-level", "info", ", ".join(LEVELS))
    given = parser.parse_args(arguments)
    if given.log_format not in ("json", "text"):
        raise SettingsError(f"--log-format {given.log_format!r}: choose json or text")
    if given.log_level not in LEVELS:
        raise SettingsError(f"--log-level {given.log_level!r}: choose one of {', '.join(LEVELS)}")
    if not given.port.isdigit() or int(given.port) > 65535:
        raise SettingsError(f"--port {given.port!r}: give a number from 0 to 65535")
    if not given.cluster:
        raise SettingsError("--cluster must not be empty")
    return Settings(
        listen=given.listen,
        port=int(given.port),
        ledger=Path(given.ledger),
        prices=Path(given.prices) if given.prices else None,
        cluster=given.cluster,
        activator_user=given.activator_user,
        settle_lag_us=_duration("settle-lag", given.settle_lag),
        settle_interval_us=_duration("settle-interval", given.settle_interval),
        log_format=given.log_format,
        log_level=given.log_level,
    )


def _duration(name: str, text: str) -> int:
    try:
        return parse_duration(text)
    except InvalidDuration as error:
        raise SettingsError(f"--{name}: {error}") from error
