"""Listening sockets, with what the connections that they accept inherit from them."""

from __future__ import annotations

import socket

BACKLOG = 4096
KEEPALIVE_COUNT = 3


def open_socket(host: str, port: int, *, shared: bool = False, silence: float = 60.0) -> socket.socket:
    """Return a listening socket; `shared` lets other processes listen on the same port.

    The kernel ends a connection whose peer vanished without a word after about twice `silence` seconds: it asks
    after that time without any byte, and it gives up what it sends when nothing of it is acknowledged for as long.
    Raises OSError.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        pause = max(int(silence), 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, pause)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, max(pause // KEEPALIVE_COUNT, 1))
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, KEEPALIVE_COUNT)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(silence * 2000))
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener
