"""The flags of the wire: what one connection, and all of them together, may take."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from pathlib import Path

from zerotide.activator.failures import SettingsError
from zerotide.activator.wire import Limits, Network
from zerotide.api.names import PORT_GATEWAY_TLS
from zerotide.api.scalars import SECOND
from zerotide.kube.options import Flags, Given

MOST_CONNECTIONS = 1_000_000
MOST_STREAMS = 10_000


def declare(flags: Flags) -> None:
    """Declare the flags."""
    flags.add("limit-head-bytes", "32Ki", "largest request line and headers together")
    flags.add("limit-head-time", "10s", "longest time from a request's first byte to the end of its headers")
    flags.add("limit-idle-time", "60s", "longest time without a request on an open connection")
    flags.add("limit-body-bytes", "256Mi", "largest request body, whatever its endpoint allows")
    flags.add("limit-body-time", "10s", "time within which a body brings limit-body-progress, or ends")
    flags.add("limit-body-progress", "1Ki", "bytes that a body brings within limit-body-time")
    flags.add("limit-body-memory", "512Mi", "bodies of all requests that are not answered yet")
    flags.add("limit-write-time", "60s", "longest time for which a client may refuse to read on")
    flags.add("limit-connections", "20000", "open connections")
    flags.add("limit-connections-per-address", "16000", "open connections from one address, 0 for any number")
    flags.add("limit-streams", "100", "requests at a time on one connection of HTTP/2")
    flags.add("limit-resets", "200", "requests given up at once on one connection of HTTP/2; a tenth more each second")
    flags.add("limit-idle-frames", "1000", "frames of HTTP/2 at once that bring no request; a tenth more each second")
    flags.add("limit-request-age", "26h", "longest time from the end of a request's head to the end of its answer")


def declare_fronts(flags: Flags) -> None:
    """Declare the flags of what clients connect to."""
    flags.add("tls-dir", "", "folder with tls.crt and tls.key, read again when they change; empty speaks no TLS")
    flags.add("tls-port", str(PORT_GATEWAY_TLS), "port for requests over TLS, 0 for any free one")
    flags.add("proxy-protocol", "false", "true: connections from the addresses below begin with the PROXY protocol")
    flags.add("proxy-protocol-from", "", "comma-separated CIDR blocks of the proxies in front")


@dataclass(frozen=True)
class Fronts:
    """What clients connect to, beside plain HTTP."""

    tls_dir: Path | None
    tls_port: int
    proxies: tuple[Network, ...]
    """From where connections begin with the PROXY protocol; none where it is off."""


def fronts_of(given: Given) -> Fronts:
    """Return what was given. Raises SettingsError."""
    on = given.text("proxy-protocol")
    if on not in ("true", "false"):
        raise SettingsError(f"--proxy-protocol {on!r}: give true or false")
    proxies = tuple(_network(text) for text in given.text("proxy-protocol-from").split(",") if text.strip())
    if on == "true" and not proxies:
        raise SettingsError("--proxy-protocol-from is empty: name the proxies that may say who a client is")
    return Fronts(given.path("tls-dir"), given.number("tls-port"), proxies if on == "true" else ())


def _network(text: str) -> Network:
    try:
        return ipaddress.ip_network(text.strip())
    except ValueError as error:
        raise SettingsError(f"--proxy-protocol-from {text.strip()!r}: give CIDR blocks: {error}") from error


def limits_of(given: Given) -> Limits:
    """Return the limits that were given. Raises SettingsError."""
    limits = Limits(
        head_bytes=given.size("limit-head-bytes", least=1024),
        head_time=_seconds(given, "limit-head-time"),
        idle_time=_seconds(given, "limit-idle-time"),
        body_bytes=given.size("limit-body-bytes", least=1024),
        body_time=_seconds(given, "limit-body-time"),
        body_progress=given.size("limit-body-progress"),
        buffered_bytes=given.size("limit-body-memory", least=1024),
        write_time=_seconds(given, "limit-write-time"),
        connections=given.number("limit-connections", MOST_CONNECTIONS, least=1),
        connections_per_address=given.number("limit-connections-per-address", MOST_CONNECTIONS),
        streams=given.number("limit-streams", MOST_STREAMS, least=1),
        resets=given.number("limit-resets", MOST_CONNECTIONS, least=1),
        idle_frames=given.number("limit-idle-frames", MOST_CONNECTIONS, least=10),
        request_age=_seconds(given, "limit-request-age"),
    )
    if limits.body_bytes > limits.buffered_bytes:
        raise SettingsError(
            "--limit-body-bytes is more than --limit-body-memory: no such body could ever be taken; lower the one or "
            "raise the other"
        )
    return limits


def _seconds(given: Given, name: str) -> float:
    seconds = given.duration_us(name) / SECOND
    if not seconds:
        raise SettingsError(f"--{name} 0s: give a time above zero")
    return seconds
