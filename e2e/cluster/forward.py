"""Carry connections from 127.0.0.1 outside into the cluster: to its API server, and to Zerotide's gateway.

The listening sockets were made outside and are inherited; this process runs inside, so what it connects to is inside.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import socket
import sys
import time
from collections.abc import Awaitable, Callable

from e2e.cluster.errors import ClusterError
from e2e.cluster.kube import Kube
from e2e.cluster.layout import NODE_ADDRESS, Layout

Address = tuple[str, int]
GATEWAY = "/api/v1/namespaces/zerotide-system/services/zerotide-gateway"
REMEMBER = 1.0
NO_GATEWAY = b"Zerotide's gateway is not installed in this cluster (Service zerotide-system/zerotide-gateway).\n"


class Gateway:
    """Find the gateway's address, and remember it for a second."""

    def __init__(self, client: Kube) -> None:
        self._client = client
        self._known: Address | None = None
        self._until = 0.0

    async def address(self) -> Address | None:
        """Return where the gateway's Service answers, or None while there is none."""
        if time.monotonic() >= self._until:
            self._known = await asyncio.to_thread(self._look)
            self._until = time.monotonic() + (REMEMBER if self._known else 0.0)
        return self._known

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
    """Copy bytes until the end, then pass the end on."""
    with contextlib.suppress(OSError):
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()


async def carry(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, find: Callable[[], Awaitable[Address | None]]
) -> None:
    """Join one connection from outside with a new one inside."""
    try:
        target = await find()
        if target is None:
            head = f"HTTP/1.1 503 Service Unavailable\r\nContent-Length: {len(NO_GATEWAY)}\r\nConnection: close\r\n\r\n"
            writer.write(head.encode() + NO_GATEWAY)
            await writer.drain()
            return
        inner_reader, inner_writer = await asyncio.open_connection(*target)
        try:
            await _both(pump(reader, inner_writer), pump(inner_reader, writer))
        finally:
            inner_writer.close()
    except OSError:
        return
    finally:
        writer.close()


async def _both(inbound: Awaitable[None], outbound: Awaitable[None]) -> None:
    await asyncio.gather(inbound, outbound)


async def main(name: str, api_socket: int, gateway_socket: int) -> None:
    """Serve both ports for ever."""
    gateway = Gateway(Kube(Layout.of(name).inside("forwarder"), timeout=5))

    async def api() -> Address:
        return NODE_ADDRESS, 6443

    servers = []
    for descriptor, find in ((api_socket, api), (gateway_socket, gateway.address)):

        async def serve(r: asyncio.StreamReader, w: asyncio.StreamWriter, find=find) -> None:  # type: ignore[no-untyped-def]
            await carry(r, w, find)

        servers.append(await asyncio.start_server(serve, sock=socket.socket(fileno=descriptor)))
    await asyncio.gather(*(server.serve_forever() for server in servers))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
