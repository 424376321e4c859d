"""Open the port before anything else is imported: from then on the kernel takes connections and they wait."""

from __future__ import annotations

import socket

from zerotide_runtime.errors import ListenError

BACKLOG = 1024


def open_port(host: str, port: int) -> socket.socket:
    """Listen on `host`, or on all addresses of both families where it is empty; raise ListenError."""
    try:
        if host:
            family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
            return socket.create_server((host, port), family=family, backlog=BACKLOG)
        if socket.has_dualstack_ipv6():
            return socket.create_server(("", port), family=socket.AF_INET6, backlog=BACKLOG, dualstack_ipv6=True)
        return socket.create_server(("", port), backlog=BACKLOG)
    except OSError as error:
        raise ListenError(f"cannot listen on {host or '*'} port {port}: {error}") from None
