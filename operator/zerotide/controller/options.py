"""What the operator is told: flags, each with an environment variable as its default."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from zerotide.api.names import PORT_ADMIN, SYSTEM_NAMESPACE
from zerotide.controller.failures import SettingsError
from zerotide.reconcile.config import Config, Policy


@dataclass(frozen=True, slots=True)
class Options:
    """Everything that the operator is told; durations in seconds."""

    config: Config
    namespace: str
    identity: str
    listen: str
    port: int
    log_format: Literal["json", "text"]
    log_level: str
    token_file: Path | None
    activator_port: int
    workers: int
    resync: float
    lease: float
    elect: bool


def parse(arguments: Sequence[str] | None = None, environment: Mapping[str, str] | None = None) -> Options:
    """Read flags and environment.

    Raises SettingsError for values that cannot be used; `--help` and unknown flags end the process as usual.
    """
    environment = os.environ if environment is None else environment
    given = _parser(environment).parse_args(arguments)
    if given.log_format not in ("json", "text"):
        raise SettingsError(f"--log-format must be json or text, not {given.log_format!r}")
    namespace = given.namespace or SYSTEM_NAMESPACE
    config = Config(
        images=_json(given.runtime_images, "--runtime-images", dict, {}),
        policy=_policy(given),
        system_namespace=namespace,
        elastic=given.elastic.lower() == "true",
    )
    return Options(
        config=config,
        namespace=namespace,
        identity=environment.get("POD_NAME") or f"{os.uname().nodename}-{os.getpid()}",
        listen=given.listen,
        port=_number(given.port, "--port"),
        log_format="text" if given.log_format == "text" else "json",
        log_level=given.log_level,
        token_file=Path(given.activator_token_file) if given.activator_token_file else None,
        activator_port=_number(given.activator_port, "--activator-port"),
        workers=_number(given.workers, "--workers"),
        resync=float(_number(given.resync, "--resync")),
        lease=float(_number(given.lease_duration, "--lease-duration", least=2)),
        elect=given.elect.lower() != "false",
    )


def _parser(environment: Mapping[str, str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m zerotide.controller",
        description="Turn InferenceEndpoints into objects, decide their replicas, write their status.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )

    def flag(name: str, default: str, text: str, variable: str = "") -> None:
        variable = variable or "ZEROTIDE_" + name.upper().replace("-", "_")
        value = environment.get(variable, default)
        parser.add_argument(f"--{name}", default=value, help=f"{text} (env {variable})")

    flag("namespace", SYSTEM_NAMESPACE, "namespace of this installation", "POD_NAMESPACE")
    every = "::" if ":" in environment.get("POD_IP", "") else "0.0.0.0"
    flag("listen", every, "address of /healthz, /readyz and /metrics")
    flag("port", str(PORT_ADMIN), "port of /healthz, /readyz and /metrics; 0 for any")
    flag("log-format", "json", "json or text")
    flag("log-level", "info", "debug, info, warning or error")
    flag("runtime-images", "{}", "images by engine, a JSON object")
    flag("policy-images", "", "images that endpoints may use, a JSON list; empty for any")
    flag("policy-node-paths", "[]", "node folders that file:// may read, a JSON list")
    flag("policy-allow-open", "true", "whether endpoints may be open to anyone: true or false")
    flag("elastic", "false", "whether nodes are added on demand, so that no pod is hopeless: true or false")
    flag("activator-token-file", "", "token for the activators' demand streams")
    flag("activator-port", str(PORT_ADMIN), "port of the activators' demand streams")
    flag("workers", "16", "endpoints that are worked on at a time")
    flag("resync", "300", "seconds between looks at everything")
    flag("lease-duration", "5", "seconds after which the Lease of an operator that does not renew it is free")
    flag("elect", "true", "whether to hold a Lease while writing: true or false")
    return parser


def _policy(given: argparse.Namespace) -> Policy:
    images = _json(given.policy_images, "--policy-images", list, None)
    return Policy(
        images=None if images is None else tuple(map(str, images)),
        node_paths=tuple(map(str, _json(given.policy_node_paths, "--policy-node-paths", list, []))),
        allow_open=given.policy_allow_open.lower() == "true",
    )


def _json(text: str, flag: str, kind: type, empty: Any) -> Any:
    if not text.strip():
        return empty
    try:
        value = json.loads(text)
    except ValueError as error:
        raise SettingsError(f"{flag} must be JSON: {error}") from error
    if not isinstance(value, kind):
        raise SettingsError(f"{flag} must be a JSON {'object' if kind is dict else 'list'}, not {text!r}")
    return value


def _number(text: str, flag: str, *, least: int = 0) -> int:
    if not text.isdigit() or int(text) < least:
        raise SettingsError(f"{flag} must be a whole number{f' from {least} on' if least else ''}, not {text!r}")
    return int(text)
