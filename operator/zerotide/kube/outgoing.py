"""Sessions to URLs that users wrote: only where the cluster's policy lets them lead, and nothing kept between two.

The address is judged at the moment at which its socket is made, so a name that leads elsewhere the next time gains
nothing. Callers follow no redirects.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import aiohttp

from zerotide import __version__
from zerotide.api.egress import Egress

_HEADERS = {"Accept-Encoding": "identity", "User-Agent": f"zerotide/{__version__}"}


class AddressForbidden(OSError):
    """A URL leads to an address that the cluster's policy does not allow."""


def trusting(authorities: Path | None) -> ssl.SSLContext:
    """Return whose certificates are believed: the system's authorities, and those of a file. Raises OSError."""
    context = ssl.create_default_context()
    if authorities is not None:
        context.load_verify_locations(authorities)
    return context


def session(
    egress: Egress, tls: ssl.SSLContext, headers: Mapping[str, str], *, named_only: bool = False
) -> aiohttp.ClientSession:
    """Return a session for one exchange; with `named_only` public addresses are not enough.

    Connecting raises aiohttp.ClientConnectorError, whose `os_error` is AddressForbidden where the policy forbids it.
    """

    def make(told: tuple[Any, ...]) -> socket.socket:
        family, kind, protocol, _, address = told
        if not (egress.names(address[0]) if named_only else egress.permits(address[0], address[1])):
            # The same words for each address of a name, or they would be reported as several failures.
            what = "not in" if named_only else "neither public nor in"
            raise AddressForbidden(f"it leads to an address that is {what} policy.egress.allow")
        return socket.socket(family, kind, protocol)

    connector = aiohttp.TCPConnector(ssl=tls, socket_factory=make, use_dns_cache=False, force_close=True, limit=0)
    return aiohttp.ClientSession(
        connector=connector,
        headers={**_HEADERS, **headers},
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        trust_env=False,
    )
