"""Carry connections from 127.0.0.1 outside into the cluster: to its API server, and to Zerotide's gateway.

The listening sockets were made outside and are inherited; this process runs inside, so what it connects to is inside.
An end of a stream is passed on as an end, a reset as a reset: tests of broken connections mean what they say.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import socket
import struct
import sys
from typing import Protocol

from e2e.cluster.errors import ClusterError
from e2e.cluster.kube import Kube
from e2e.cluster.layout import NODE_ADDRESS, Layout

Address = tuple[str, int]
Ends = tuple[asyncio.StreamReader, asyncio.StreamWriter]
GATEWAY = "/api/v1/namespaces/zerotide-system/services/zerotide-gateway"
NO_GATEWAY = b"Zerotide's gateway is not installed in this cluster (Service zerotide-system/zerotide-gateway).\n"


class Target(Protocol):
    """Something inside that connections are carried to."""

    async def connect(self) -> Ends | None:
        """Open a connection, or return None when there is nothing to connect to. Raises OSError."""


class ApiServer:
    """The API server, at its fixed address."""

    async def connect(self) -> Ends | None:
        """Open a connection. Raises OSError."""
        return await asyncio.open_connection(NODE_ADDRESS, 6443)


class Gateway:
    """Zerotide's gateway, at the address of its Service, which is looked up when it is not known or fails."""

    def __init__(self, client: Kube) -> None:
        self._client = client
        self._known: Address | None = None

    async def connect(self) -> Ends | None:
        """Open a connection, or return None while there is no Service. Raises OSError."""
        if self._known is not None:
            # The address of a Service that was removed refuses nobody: connecting would hang for minutes.
            with contextlib.suppress(OSError):
                async with asyncio.timeout(1):
                    return await asyncio.open_connection(*self._known)
        self._known = await asyncio.to_thread(self._look)
        return await asyncio.open_connection(*self._known) if self._known else None

    def _look(self) -> Address | None:
        try:
            service = self._client.get(GATEWAY)
        except (OSError, http.client.HTTPException, ClusterError):
            return None
        if service is None or service["spec"].get("clusterIP") in (None, "", "None"):
            return None
        ports = service["spec"]["ports"]
        chosen = next((port for port in ports if port.get("name") == "http"), ports[0])
        return service["spec"]["clusterIP"], int(chosen["port"])


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Copy bytes until the end, then pass the end on. Raises OSError."""
    while data := await reader.read(1 << 16):
        writer.write(data)
        await writer.drain()
    writer.write_eof()


async def carry(outer: Ends, target: Target) -> None:
    """Join one connection from outside with a new one inside, until both directions ended or either broke."""
    writers = [outer[1]]
    try:
        inner = await target.connect()
        if inner is None:
            await _refuse(outer[1])
            return
        writers.append(inner[1])
        async with asyncio.TaskGroup() as both:
            both.create_task(pump(outer[0], inner[1]))
            both.create_task(pump(inner[0], outer[1]))
    except* OSError:
        for writer in writers:
            _reset(writer)
    finally:
        for writer in writers:
            writer.close()


def _reset(writer: asyncio.StreamWriter) -> None:
    # Without lingering a close is a reset, even where everything was read.
    with contextlib.suppress(OSError):  # the side that broke is closed already
        plain = writer.get_extra_info("socket")
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def _refuse(writer: asyncio.StreamWriter) -> None:
    head = f"HTTP/1.1 503 Service Unavailable\r\nContent-Length: {len(NO_GATEWAY)}\r\nConnection: close\r\n\r\n"
    writer.write(head.encode() + NO_GATEWAY)
    await writer.drain()


async def listen(listener: socket.socket, target: Target) -> asyncio.Server:
    """Start carrying the connections of one listening socket."""

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await carry((reader, writer), target)

    return await asyncio.start_server(accept, sock=listener)


async def main(name: str, api_socket: int, gateway_socket: int) -> None:
    """Serve both ports for ever."""
    gateway = Gateway(Kube(Layout.of(name).inside("forwarder"), timeout=5))
    targets: list[tuple[int, Target]] = [(api_socket, ApiServer()), (gateway_socket, gateway)]
    servers = [await listen(socket.socket(fileno=descriptor), target) for descriptor, target in targets]
    await asyncio.gather(*(server.serve_forever() for server in servers))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
