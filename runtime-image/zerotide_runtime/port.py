"""Open the port before anything else is imported: from then on the kernel takes connections and they wait."""

from __future__ import annotations

import socket
from pathlib import Path

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


def open_socket(path: Path) -> socket.socket:
    """Listen on a Unix socket that only this user may connect to; raise ListenError."""
    made = socket.socket(socket.AF_UNIX)
    try:
        path.unlink(missing_ok=True)  # left by a process that was killed
        made.bind(str(path))
        path.chmod(0o600)
        made.listen(BACKLOG)
    except OSError as error:
        made.close()
        raise ListenError(f"cannot listen on {path}: {error}") from None
    return made
