"""What an activator is told: flags, each with an environment variable as its default."""

from __future__ import annotations

import argparse
import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from zerotide.activator.failures import SettingsError
from zerotide.api.failures import InvalidDuration
from zerotide.api.names import (
    PORT_ADMIN,
    PORT_GATEWAY,
    SERVICE_ACCOUNT_OPERATOR,
    SERVICE_EXPORTER,
    SYSTEM_NAMESPACE,
    service_account_user,
)
from zerotide.api.scalars import SECOND, parse_duration

LEVELS = ("debug", "info", "warning", "error")


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
    drain_listen: float
    drain_timeout: float
    max_endpoints: int
    log_format: str
    log_level: str


def parse(arguments: Sequence[str] | None = None, environment: Mapping[str, str] = os.environ) -> Settings:
    """Read flags and environment. Raises SettingsError; exits for --help and for unknown flags as argparse does."""
    namespace = environment.get("POD_NAMESPACE") or SYSTEM_NAMESPACE
    parser = argparse.ArgumentParser(
        prog="python -m zerotide.activator",
        description="Authenticate, hold, route and count requests to model endpoints.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )

    def flag(name: str, default: str, text: str, variable: str = "") -> None:
        variable = variable or "ZEROTIDE_" + name.upper().replace("-", "_")
        parser.add_argument(f"--{name}", default=environment.get(variable) or default, help=f"{text} [{variable}]")

    flag("listen", "0.0.0.0", "address to listen on")
    flag("port", str(PORT_GATEWAY), "port for requests, 0 for any free one")
    flag("admin-port", str(PORT_ADMIN), "port for health, metrics and demand, 0 for any free one")
    flag("pod-name", socket.gethostname(), "name of this activator, unique among them", "POD_NAME")
    flag("pod-namespace", namespace, "namespace of the activators", "POD_NAMESPACE")
    operator = service_account_user(namespace, SERVICE_ACCOUNT_OPERATOR)
    flag("operator-user", operator, "user that may read the demand stream")
    exporter = f"http://{SERVICE_EXPORTER}.{namespace}.svc:{PORT_ADMIN}"
    flag("exporter-url", exporter, "exporter that takes usage records; `none` keeps them in the log")
    flag("exporter-token-file", "", "file of the token for the exporter; empty sends none")
    flag("usage-dir", "", "folder of the usage log; empty records no usage")
    flag("drain-listen", "10s", "time after SIGTERM for which new connections are taken at least")
    flag("drain-timeout", "15m", "longest time after SIGTERM for which requests are finished")
    flag("max-endpoints", "1000", "endpoints with metrics of their own")
    flag("log-format", "json", "json, or text for people")
    flag("log-level", "info", ", ".join(LEVELS))
    return _checked(parser.parse_args(arguments))


def _checked(given: argparse.Namespace) -> Settings:
    if given.log_format not in ("json", "text"):
        raise SettingsError(f"--log-format {given.log_format!r}: choose json or text")
    if given.log_level not in LEVELS:
        raise SettingsError(f"--log-level {given.log_level!r}: choose one of {', '.join(LEVELS)}")
    exporter = "" if given.exporter_url == "none" else given.exporter_url.rstrip("/")
    if exporter and not exporter.startswith(("http://", "https://")):
        raise SettingsError(f"--exporter-url {given.exporter_url!r}: give an http or https address, or none")
    return Settings(
        listen=given.listen,
        port=_number("port", given.port, 65535),
        admin_port=_number("admin-port", given.admin_port, 65535),
        pod_name=given.pod_name,
        pod_namespace=given.pod_namespace,
        operator_user=given.operator_user,
        exporter_url=exporter,
        exporter_token_file=Path(given.exporter_token_file) if given.exporter_token_file else None,
        usage_dir=Path(given.usage_dir) if given.usage_dir else None,
        drain_listen=_duration("drain-listen", given.drain_listen),
        drain_timeout=_duration("drain-timeout", given.drain_timeout),
        max_endpoints=_number("max-endpoints", given.max_endpoints, 100_000),
        log_format=given.log_format,
        log_level=given.log_level,
    )


def _number(name: str, text: str, most: int) -> int:
    if not text.isascii() or not text.isdigit() or int(text) > most:
        raise SettingsError(f"--{name} {text!r}: give a number from 0 to {most}")
    return int(text)


def _duration(name: str, text: str) -> float:
    try:
        return parse_duration(text) / SECOND
    except InvalidDuration as error:
        raise SettingsError(f"--{name}: {error}") from error
