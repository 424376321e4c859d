"""Send requests to one server over kept-alive connections, each for one request at a time.

An operator's requests are small, and there are six for each endpoint. With aiohttp, which builds a request, an answer,
a stream, timers and tracing around each, one costs three times what it costs with a parser alone. Streams, of which
there are few, stay with aiohttp.
"""

from __future__ import annotations

import asyncio
import re
import ssl
import time
import zlib
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, cast
from urllib.parse import quote, urlencode, urlsplit

import httptools

from zerotide.kube.answer import Answer, beginning
from zerotide.kube.errors import ConnectionFailed

CONNECT, ANSWER = 5.0, 30.0
"""Seconds that a connection, and an answer after it, may take."""
KEEP = 60.0
"""Seconds after which an idle connection is not used again; API servers keep theirs for 90."""
HARMLESS = "/version"
"""What is read over a connection that is only to stay open."""

_REPEATABLE = {"GET", "PUT", "DELETE"}
_READ = {b"content-length", b"transfer-encoding", b"content-encoding", b"retry-after"}
_PLAIN = re.compile(r"[!-~]+")
_BROKEN = re.compile(r"[\r\n\0]")
_GZIP = 31


class Unanswered(ConnectionFailed):
    """The connection ended before any byte of the answer."""


class Wire:
    """The connections to one server, as many as there are requests at a time; `now` tells seconds."""

    def __init__(
        self,
        server: str,
        tls: ssl.SSLContext | None,
        headers: Mapping[str, str],
        *,
        patience: float = ANSWER,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        parts = urlsplit(server)
        self._server, self._tls, self._patience, self._now = server, tls, patience, now
        self._host, self._port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
        self._prefix = parts.path.rstrip("/")
        self._head = _lines({"Host": parts.netloc.rpartition("@")[2], **headers})
        self._idle: list[_Connection] = []
        self._open: set[_Connection] = set()
        self._due: dict[_Connection, float] = {}
        """Until when each connection may take that somebody waits for; all have the same time, so the first is next."""
        self._timer: asyncio.TimerHandle | None = None

    async def send(
        self, method: str, path: str, *, query: Mapping[str, str], headers: Mapping[str, str], body: bytes | None
    ) -> Answer:
        """Send one request and return its answer, whatever its status. Raises ConnectionFailed."""
        sent = self._request(method, path, query, headers, body)
        try:
            answer = await self._exchange(sent, method in _REPEATABLE)
            return answer._replace(body=_plain(answer)) if b"content-encoding" in answer.headers else answer
        except ConnectionFailed as error:
            raise ConnectionFailed(f"{method} {self._server}{path}: {error}") from error
        except (TimeoutError, OSError, zlib.error) as error:
            raise ConnectionFailed(f"{method} {self._server}{path}: {error!r}") from error

    async def refresh(self, spare: int, headers: Mapping[str, str]) -> None:
        """Make a connection where fewer than `spare` are open, or use the one that was idle for longest, if it is time.

        Raises ConnectionFailed.
        """
        for worn in [each for each in self._idle if self._worn(each)]:
            self._idle.remove(worn)
            worn.cut()
        few = sum(each.usable for each in self._open) < spare
        if not few and not (self._idle and self._now() - self._idle[0].idle_since >= KEEP / 2):
            return
        try:
            connection = await self._connect() if few else self._idle.pop(0)
            await self._over(connection, self._request("GET", HARMLESS, {}, headers, None))
        except (TimeoutError, OSError) as error:
            raise ConnectionFailed(f"GET {self._server}{HARMLESS}: {error!r}") from error

    async def close(self) -> None:
        """Cut every connection, and return once they are closed."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for connection in list(self._open):
            connection.cut()
        while self._open:
            await next(iter(self._open)).closed

    def _request(
        self, method: str, path: str, query: Mapping[str, str], headers: Mapping[str, str], body: bytes | None
    ) -> bytes:
        target = self._prefix + (path if _PLAIN.fullmatch(path) else quote(path, safe="/:%"))
        if query:
            target += _query(tuple(query.items()))
        length = "" if body is None else f"Content-Length: {len(body)}\r\n"
        compressed = "Accept-Encoding: gzip\r\n" if method == "GET" else ""
        own = _known_lines(tuple(headers.items()))
        head = f"{method} {target} HTTP/1.1\r\n{self._head}{own}{compressed}{length}\r\n"
        return head.encode("latin-1") + (body or b"")

    async def _exchange(self, sent: bytes, repeatable: bool) -> Answer:
        connection = self._free()
        if connection is not None:
            try:
                return await self._over(connection, sent)
            except Unanswered:
                # The server may have closed it, idle as it was, while the request was on its way.
                if not repeatable:
                    raise
        return await self._over(await self._connect(), sent)

    async def _over(self, connection: _Connection, sent: bytes) -> Answer:
        self._expect(connection)
        try:
            answer = await connection.ask(sent)
        except BaseException:
            # An answer that nobody waits for must not be taken for that of the next request.
            connection.cut()
            raise
        finally:
            del self._due[connection]
        if connection.usable:
            connection.idle_since = self._now()
            self._idle.append(connection)
        return answer

    def _expect(self, connection: _Connection) -> None:
        """See to it that nobody waits for ever. One timer for all: to make one costs as much as to send a request."""
        loop = asyncio.get_running_loop()
        self._due[connection] = due = loop.time() + self._patience
        if self._timer is None:
            self._timer = loop.call_at(due, self._give_up)

    def _give_up(self) -> None:
        self._timer, loop = None, asyncio.get_running_loop()
        for connection, due in self._due.items():
            if due > loop.time():
                self._timer = loop.call_at(due, self._give_up)
                return
            connection.give_up()

    def _free(self) -> _Connection | None:
        while self._idle:
            connection = self._idle.pop()
            if not self._worn(connection):
                return connection
            connection.cut()
        return None

    def _worn(self, connection: _Connection) -> bool:
        return not connection.usable or self._now() - connection.idle_since >= KEEP

    async def _connect(self) -> _Connection:
        loop = asyncio.get_running_loop()
        made = _Connection(loop.create_future(), self._open.discard)
        async with asyncio.timeout(CONNECT):
            await loop.create_connection(lambda: made, self._host, self._port, ssl=self._tls)
        if not made.closed.done():
            self._open.add(made)
        return made


class _Connection(asyncio.Protocol):
    """One connection; the parser calls it back with each piece of an answer."""

    def __init__(self, closed: asyncio.Future[None], on_end: Callable[[_Connection], None]) -> None:
        self.closed, self._on_end = closed, on_end
        self.idle_since = 0.0
        self.usable = True
        self._transport: asyncio.Transport | None = None
        self._parser: Any = httptools.HttpResponseParser(self)
        self._answer: asyncio.Future[Answer] | None = None
        self._headers: dict[bytes, bytes] = {}
        self._body: list[bytes] = []
        self._begun = self._until_close = False
        self._plain: Answer | None = None
        """The answer that is read without the parser, as it began."""
        self._missing = 0

    def ask(self, sent: bytes) -> asyncio.Future[Answer]:
        """Send a request; the future fails with ConnectionFailed."""
        self._answer = self.closed.get_loop().create_future()
        self._begun, self._plain = False, None
        if self._transport is None or self._transport.is_closing():
            self._end(Unanswered("the connection was closed"))
        else:
            self._transport.write(sent)
        return self._answer

    def give_up(self) -> None:
        """Tell whoever waits that it took too long."""
        self._end(ConnectionFailed("no answer came in time"))

    def cut(self) -> None:
        """Close at once."""
        self.usable = False
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Read what came."""
        if self._answer is None:
            return self.cut()  # nobody asked
        if self._plain is not None:
            return self._more(self._plain, data)
        if not self._begun and (plain := beginning(data)) is not None:
            self._begun = True
            answer, self._missing = plain
            if not self._missing:
                return self._give(answer)
            self._plain, self._body = answer, [answer.body]
            return None
        self._begun = True
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._end(ConnectionFailed(f"the answer is not HTTP: {error}"))
            self.cut()

    def connection_lost(self, error: Exception | None) -> None:
        """Tell whoever waits."""
        self.usable = False
        if self._until_close and error is None:
            self.on_message_complete()
        failure = ConnectionFailed if self._begun else Unanswered
        self._end(failure(f"the answer broke off: {error!r}" if self._begun else f"no answer came: {error!r}"))
        self._on_end(self)
        if not self.closed.done():
            self.closed.set_result(None)

    def on_message_begin(self) -> None:
        """Begin an answer, or an interim one before it."""
        self._headers, self._body, self._until_close = {}, [], False

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header that matters."""
        lower = name.lower()
        if lower in _READ:
            self._headers[lower] = value

    def on_headers_complete(self) -> None:
        """See whether the body ends with the connection."""
        length = self._headers.get(b"content-length", self._headers.get(b"transfer-encoding"))
        self._until_close = length is None and self._parser.get_status_code() not in (204, 304)

    def on_body(self, data: bytes) -> None:
        """Keep a piece of the body."""
        self._body.append(data)

    def on_message_complete(self) -> None:
        """Give the answer to whoever waits, unless it is an interim one."""
        status = self._parser.get_status_code()
        if status < 200 or self._answer is None:
            return
        self.usable = self.usable and self._parser.should_keep_alive()
        self._until_close = False
        self._give(Answer(status, self._headers, self._whole()))

    def _more(self, plain: Answer, data: bytes) -> None:
        """Take in a piece of a body whose length is known."""
        self._body.append(data)
        self._missing -= len(data)
        if self._missing > 0:
            return
        self._plain = None
        if self._missing < 0:
            self.usable = False  # nobody asked for what came behind it
            self._body[-1] = data[: self._missing]
        self._give(plain._replace(body=self._whole()))

    def _whole(self) -> bytes:
        return self._body[0] if len(self._body) == 1 else b"".join(self._body)

    def _give(self, answer: Answer) -> None:
        waiting, self._answer = self._answer, None
        if waiting is not None and not waiting.done():
            waiting.set_result(answer)
        if not self.usable:
            self.cut()

    def _end(self, error: ConnectionFailed) -> None:
        waiting, self._answer = self._answer, None
        if waiting is not None and not waiting.done():
            waiting.set_exception(error)


def _lines(headers: Mapping[str, str]) -> str:
    lines = [f"{name}: {value}" for name, value in headers.items()]
    for line in lines:
        if _BROKEN.search(line):
            raise ValueError(f"a header with a line break would be two: {line!r}")
    return "".join(f"{line}\r\n" for line in lines)


@lru_cache(maxsize=64)
def _known_lines(headers: tuple[tuple[str, str], ...]) -> str:
    return _lines(dict(headers))


@lru_cache(maxsize=256)
def _query(parts: tuple[tuple[str, str], ...]) -> str:
    return "?" + urlencode(parts, quote_via=quote)


def _plain(answer: Answer) -> bytes:
    if answer.headers.get(b"content-encoding", b"").lower() != b"gzip":
        return answer.body
    return zlib.decompress(answer.body, _GZIP)
