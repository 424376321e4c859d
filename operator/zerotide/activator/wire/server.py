"""A listening server: its connections, their common limits, and the way it ends."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any

from zerotide.activator.failures import PeerFault
from zerotide.activator.wire.acceptor import Acceptor, Network
from zerotide.activator.wire.connection import Connection
from zerotide.activator.wire.door import Door, Peer
from zerotide.activator.wire.exchange import Exchange
from zerotide.activator.wire.host import Served
from zerotide.activator.wire.limits import Limits
from zerotide.activator.wire.listening import BACKLOG
from zerotide.activator.wire.memo import Memo
from zerotide.activator.wire.message import Headers, Request
from zerotide.activator.wire.tls import Certificate

Handler = Callable[[Exchange], Coroutine[Any, Any, None]]
Express = Callable[[Exchange], bool]
FaultAnswer = Callable[[PeerFault], tuple[int, Headers, bytes]]


class Server:
    """Serve HTTP, by `express` where it takes a request, else by a task of `handler` for each."""

    def __init__(
        self,
        handler: Handler,
        answer_to: FaultAnswer,
        limits: Limits | None = None,
        clock: Callable[[], float] = time.monotonic,
        express: Express | None = None,
    ) -> None:
        self.limits = limits or Limits()
        self.door = Door(self.limits.connections, self.limits.connections_per_address)
        self.connections: set[Served] = set()
        self.draining = False
        self.buffered = 0
        """Bytes of request bodies that are in memory."""
        self.now = clock
        self.heads: Memo[Request] = Memo()
        self.handle = handler
        self.express: Express = express or _never
        self.answer_to = answer_to
        self._listeners: list[asyncio.Server] = []
        self._acceptors: list[Acceptor] = []
        self._sweeper: asyncio.Task[None] | None = None

    async def listen(
        self, listener: socket.socket, certificate: Certificate | None = None, proxies: Sequence[Network] = ()
    ) -> int:
        """Accept connections and return the port.

        With a certificate only TLS is spoken; connections from `proxies` must begin with the PROXY protocol.
        """
        loop = asyncio.get_running_loop()
        self._sweeper = self._sweeper or loop.create_task(self._sweep())
        if certificate is None and not proxies:
            server = await loop.create_server(self._connect, sock=listener, backlog=BACKLOG)
            self._listeners.append(server)
            return int(server.sockets[0].getsockname()[1])
        acceptor = Acceptor(listener, self._connect, self.door, self.limits, certificate, proxies)
        self._acceptors.append(acceptor)
        return acceptor.port

    def drain(self) -> None:
        """Go on serving, but end each connection after its next answer."""
        self.draining = True

    def shut_idle(self) -> None:
        """End the connections on which nothing is going on."""
        for connection in list(self.connections):
            connection.shut_idle()

    def overrule(self, fault: PeerFault) -> None:
        """End every request that is being worked on, each in a way that its client can tell from a complete answer."""
        for connection in list(self.connections):
            connection.overrule(fault)

    async def close(self) -> None:
        """Stop listening and drop every connection; requests still going on are cancelled."""
        self.stop_listening()
        for acceptor in self._acceptors:
            await acceptor.abort()
        if self._sweeper is not None:
            self._sweeper.cancel()
        tasks: list[Awaitable[Any]] = []
        for connection in list(self.connections):
            task = connection.abort()
            if task is not None:
                tasks.append(task)
        await asyncio.gather(*tasks, return_exceptions=True)

    def stop_listening(self) -> None:
        """Refuse new connections; those that are open stay."""
        for server in self._listeners:
            server.close()
        for acceptor in self._acceptors:
            acceptor.close()

    def _connect(self, peer: Peer | None = None) -> Connection:
        return Connection(self, peer)

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(self.limits.sweep)
            now = self.now()
            for connection in list(self.connections):
                connection.expire(now)


def _never(exchange: Exchange) -> bool:
    return False
