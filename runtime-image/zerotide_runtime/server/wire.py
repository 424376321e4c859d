"""HTTP/1.1 connections on asyncio: keep-alive, pipelining, streaming with back-pressure, and clients that leave."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from dataclasses import dataclass

from zerotide_runtime.port import BACKLOG
from zerotide_runtime.server.message import (
    BadMessage,
    Handler,
    Request,
    RequestParser,
    Response,
    StreamBroken,
    StreamResponse,
    head,
    json_response,
)

log = logging.getLogger(__name__)

LINGER = 2.0  # seconds for which a refused client may go on sending, before its connection is cut
READ_AHEAD = 64 << 10  # what a client may send beyond the request that is being answered


@dataclass(frozen=True)
class Limits:
    """Bounds of a connection, in bytes and seconds.

    `idle` is longer than any usual client keeps a connection, so that the client is the one to close it and
    never sends a request into a closing connection.
    """

    max_body: int
    receive: float = 30.0
    idle: float = 300.0


class Connection(asyncio.Protocol):
    """One client's connection: requests are answered one after the other."""

    def __init__(self, server: HTTPServer) -> None:
        self._server = server
        self._parser = RequestParser(server.limits.max_body)
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._writable = asyncio.Event()
        self._writable.set()
        self._refused = False

    @property
    def busy(self) -> bool:
        """Tell whether a request is being answered."""
        return self._task is not None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._server.connections.add(self)
        self._set_timer(self._server.limits.receive)

    def connection_lost(self, exc: Exception | None) -> None:
        self._server.connections.discard(self)
        self._cancel_timer()
        self._writable.set()
        if self._task is not None:
            self._task.cancel()  # the client left; nobody needs the answer
        self._server.note_idle()

    def eof_received(self) -> bool:
        return False  # clients that half-close and still listen do not exist among HTTP libraries

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        self._parser.feed(data)
        if self._task is None:
            self._next()
        elif self._parser.buffered > READ_AHEAD and self._transport is not None:
            self._transport.pause_reading()

    def close(self) -> None:
        """Close after what was written is sent."""
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Close at once, so that the client knows its answer is not complete."""
        if self._transport is not None:
            self._transport.abort()

    def _next(self) -> None:
        """Start on the next request, if it is complete."""
        if self._transport is not None:
            self._transport.resume_reading()
        try:
            request = self._parser.take()
        except BadMessage as error:
            self._refuse(error)
            return
        if request is not None:
            self._cancel_timer()
            self._task = self._loop.create_task(self._answer(request))
        elif self._parser.wants_continue():
            self._write(b"HTTP/1.1 100 Continue\r\n\r\n")
        elif self._server.stopping and not self._parser.started:
            self.close()

    def _refuse(self, error: BadMessage) -> None:
        content = {"error": str(error), "error_type": "validation"}
        self._refused = True
        self._cancel_timer()
        self._send(json_response(error.status, content), keep_alive=False)
        if self._transport is None:
            return
        # A client that still sends would see a reset instead of the answer, were the connection closed at once.
        self._transport.resume_reading()
        if self._transport.can_write_eof():
            self._transport.write_eof()
        self._timer = self._loop.call_later(LINGER, self.abort)

    async def _answer(self, request: Request) -> None:
        keep_alive = request.keep_alive
        try:
            response = await self._server.handler(request)
            keep_alive = keep_alive and not self._server.stopping
            if isinstance(response, StreamResponse):
                await self._stream(response, keep_alive)
            else:
                self._send(response, keep_alive, body=request.method != "HEAD")
        except asyncio.CancelledError:
            pass  # connection_lost
        except StreamBroken:
            keep_alive = False  # closed without the last chunk: the client sees that the answer is not complete
        except Exception:
            log.exception("answering a request failed")
            self.abort()
        finally:
            request.finish()
            self._task = None
            self._server.note_idle()
        if self._transport is None or self._transport.is_closing():
            return
        if not keep_alive:
            self.close()
            return
        self._set_timer(self._server.limits.receive if self._parser.started else self._server.limits.idle)
        self._next()

    def _send(self, response: Response, keep_alive: bool, body: bool = True) -> None:
        framing = f"content-length: {len(response.body)}"
        start = head(response.status, response.content_type, response.headers, framing, keep_alive)
        self._write(start + (response.body if body else b""))

    async def _stream(self, response: StreamResponse, keep_alive: bool) -> None:
        framing = "transfer-encoding: chunked"
        pending = head(response.status, response.content_type, response.headers, framing, keep_alive)
        async with contextlib.aclosing(response.chunks) as chunks:  # type: ignore[type-var]
            async for chunk in chunks:
                if not chunk:
                    continue  # an empty chunk would end the body
                await self._writable.wait()
                self._write(pending + f"{len(chunk):x}\r\n".encode() + chunk + b"\r\n")
                pending = b""
        self._write(pending + b"0\r\n\r\n")

    def _write(self, data: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def _set_timer(self, seconds: float) -> None:
        self._cancel_timer()
        self._timer = self._loop.call_later(seconds, self.close)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class HTTPServer:
    """Listen, and hand every request to one handler."""

    def __init__(self, handler: Handler, limits: Limits) -> None:
        self.handler = handler
        self.limits = limits
        self.connections: set[Connection] = set()
        self.stopping = False
        self._idle = asyncio.Event()
        self._server: asyncio.Server | None = None

    async def start(self, listening: socket.socket) -> None:
        """Take connections from a listening socket."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: Connection(self), sock=listening, backlog=BACKLOG)

    def stop_listening(self) -> None:
        """Close the port and the idle connections; those at work close after their answer."""
        self.stopping = True
        if self._server is not None:
            self._server.close()
        for connection in [c for c in self.connections if not c.busy]:
            connection.close()
        self.note_idle()

    async def drain(self, timeout: float) -> None:
        """Wait for the answers in hand, at most `timeout` seconds, then cut the rest off."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._idle.wait(), timeout)
        for connection in list(self.connections):
            if connection.busy:
                connection.abort()
            else:
                connection.close()
        await asyncio.sleep(0)  # let the transports act

    def note_idle(self) -> None:
        """Wake `drain` when no connection is at work."""
        if any(connection.busy for connection in self.connections):
            self._idle.clear()
        else:
            self._idle.set()
