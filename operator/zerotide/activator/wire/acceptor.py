"""Accept connections that do not begin with HTTP: a proxy's header ahead, or TLS around, or both.

The header is read from the socket byte by byte, none beyond it, so that TLS finds its own first bytes. A connection
counts from the moment it is accepted, and has as long for header and handshake as a request has for its head.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import socket
from collections.abc import Callable, Sequence
from typing import Any

from zerotide.activator.failures import HandshakeFailed, MalformedProxyHeader, PeerFault, TooManyFromAddress
from zerotide.activator.wire.door import Door, Peer
from zerotide.activator.wire.limits import Limits
from zerotide.activator.wire.listening import BACKLOG
from zerotide.activator.wire.proxy_protocol import LONGEST_V2, parse
from zerotide.activator.wire.tls import Certificate

log = logging.getLogger(__name__)

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
AT_ONCE = 64
"""Connections that are accepted before others get their turn."""
PAUSE = 0.1
"""Seconds to wait when the process has no descriptor left."""


class Acceptor:
    """Accept on one socket; `connect` makes the protocol of a client that was let in."""

    def __init__(
        self,
        listener: socket.socket,
        connect: Callable[[Peer], asyncio.Protocol],
        door: Door,
        limits: Limits,
        certificate: Certificate | None = None,
        proxies: Sequence[Network] = (),
    ) -> None:
        self._listener, self._connect, self._door, self._limits = listener, connect, door, limits
        self._certificate, self._proxies = certificate, proxies
        self._scheme = b"http" if certificate is None else b"https"
        self._arriving: set[asyncio.Task[None]] = set()
        self._paused: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()
        listener.listen(BACKLOG)
        self._loop.add_reader(listener, self._accept)

    @property
    def port(self) -> int:
        """Return the port."""
        return int(self._listener.getsockname()[1])

    def close(self) -> None:
        """Accept nothing more; those who are about to be let in still are."""
        if self._listener.fileno() < 0:
            return
        if self._paused is not None:
            self._paused.cancel()
        self._loop.remove_reader(self._listener)
        self._listener.close()

    async def abort(self) -> None:
        """Accept nothing more, and drop those who are about to be let in."""
        self.close()
        arriving = list(self._arriving)
        for task in arriving:
            task.cancel()
        await asyncio.gather(*arriving, return_exceptions=True)

    def _accept(self) -> None:
        for _ in range(AT_ONCE):
            try:
                sock, address = self._listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                log.error("connections cannot be accepted for a moment", extra={"error": str(error)})
                self._loop.remove_reader(self._listener)
                self._paused = self._loop.call_later(PAUSE, self._loop.add_reader, self._listener, self._accept)
                return
            sock.setblocking(False)
            self._begin(sock, str(address[0]))

    def _begin(self, sock: socket.socket, address: str) -> None:
        proxied = self._is_proxy(address)
        try:
            self._door.enter("" if proxied else address, bounded=not proxied)
        except PeerFault:
            sock.close()
            return
        task = self._loop.create_task(self._arrive(sock, address, proxied))
        self._arriving.add(task)
        task.add_done_callback(self._arriving.discard)

    async def _arrive(self, sock: socket.socket, address: str, proxied: bool) -> None:
        """Let a client in, or close its connection and count why."""
        try:
            if proxied:
                address = await self._introduce(sock, address)
            await self._attach(sock, Peer(address, self._scheme))
        except (MalformedProxyHeader, HandshakeFailed) as fault:
            self._door.rejected[fault.reason] += 1
            sock.close()
        except (TooManyFromAddress, asyncio.CancelledError):
            sock.close()

    async def _introduce(self, sock: socket.socket, proxy: str) -> str:
        """Return whom a proxy speaks for, and count the connection as its.

        Raises MalformedProxyHeader or TooManyFromAddress.
        """
        counted = ""
        try:
            async with asyncio.timeout(self._limits.head_time):
                source = await self._read_header(sock)
            counted = source or proxy
            self._door.rename("", counted, bounded=bool(source))
        except TimeoutError as error:
            self._door.leave("")
            raise MalformedProxyHeader("a header of the PROXY protocol did not arrive in time") from error
        except (PeerFault, asyncio.CancelledError):
            self._door.leave("")
            raise
        return counted

    async def _read_header(self, sock: socket.socket) -> str:
        data = b""
        while True:
            waiting = await self._peek(sock)
            header = parse(data + waiting)
            size = len(waiting) if header is None else header.length - len(data)
            data += sock.recv(size)
            if header is not None:
                return header.source

    async def _peek(self, sock: socket.socket) -> bytes:
        """Return bytes that have arrived, and leave them there. Raises MalformedProxyHeader where none will."""
        ready = asyncio.Event()
        self._loop.add_reader(sock, ready.set)
        try:
            await ready.wait()
        finally:
            self._loop.remove_reader(sock)
        try:
            waiting = sock.recv(LONGEST_V2, socket.MSG_PEEK)
        except OSError as error:
            raise MalformedProxyHeader("the proxy closed the connection") from error
        if not waiting:
            raise MalformedProxyHeader("the proxy closed the connection")
        return waiting

    async def _attach(self, sock: socket.socket, peer: Peer) -> None:
        """Hand a socket to its protocol, TLS first where there is a certificate. Raises HandshakeFailed."""
        secure: dict[str, Any] = {}
        if self._certificate is not None:
            secure = {
                "ssl": self._certificate.context,
                "ssl_handshake_timeout": self._limits.head_time,
                "ssl_shutdown_timeout": self._limits.linger_time,
            }
        try:
            await self._loop.connect_accepted_socket(lambda: self._connect(peer), sock, **secure)
        except (OSError, asyncio.CancelledError) as error:
            self._door.leave(peer.address)
            if isinstance(error, asyncio.CancelledError):
                raise
            raise HandshakeFailed(f"no TLS with {peer.address}: {error}") from error

    def _is_proxy(self, address: str) -> bool:
        if not self._proxies:
            return False
        known = ipaddress.ip_address(address)
        mapped = getattr(known, "ipv4_mapped", None)
        return any((mapped or known) in network for network in self._proxies)
