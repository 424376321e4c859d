"""A replica that keeps every byte it was sent, and reads them with a parser that is not ours."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from typing import Self

import h11

GOOD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}"
_EMPTY = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"
# Stricter than h11, which takes bare LF and folded lines: what a head of ours looks like, byte by byte.
_HEAD = re.compile(
    rb"(?:GET|POST) /[\x21-\x7e]* HTTP/1\.1\r\n"
    rb"(?:[a-z0-9!#$%&'*+.^`|~-]+: (?:[\x21-\x7e\x80-\xff](?:[\t\x20-\x7e\x80-\xff]*[\x21-\x7e\x80-\xff])?)?\r\n)+\r\n"
)


@dataclass(frozen=True)
class Heard:
    """One request as h11 reads it, names in lower case."""

    method: bytes
    target: bytes
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes

    def get(self, name: bytes) -> bytes:
        """Return the first value of a header, empty where there is none."""
        return next((value for key, value in self.headers if key == name), b"")


@dataclass
class _Line:
    """One connection: its bytes, and how far they are answered."""

    raw: bytes = b""
    answered: int = 0


class Wiretap:
    """Answer probes, and every POST with `answer`: raw bytes, after which `hang_up` ends the connection."""

    def __init__(self) -> None:
        self.answer = GOOD
        self.hang_up = False
        self.port = 0
        self.lines: list[_Line] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        """Listen on a free port."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        """Drop every connection."""
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def posts(self) -> list[Heard]:
        """Return what was forwarded, probes aside; fails where a byte of it could be read in two ways."""
        return [heard for line in self.lines for heard in read_requests(line.raw) if heard.method == b"POST"]

    def forget(self) -> None:
        """Forget what was heard so far."""
        for line in self.lines:
            line.raw, line.answered = b"", 0

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        line = _Line()
        self.lines.append(line)
        try:
            while data := await reader.read(65536):
                line.raw += data
                for heard in read_requests(line.raw, whole=False)[line.answered :]:
                    line.answered += 1
                    writer.write(_EMPTY if heard.method == b"GET" else self.answer)
                    if heard.method != b"GET" and self.hang_up:
                        await writer.drain()
                        return
        except (ConnectionError, asyncio.CancelledError, h11.RemoteProtocolError):
            pass
        finally:
            self._tasks.discard(task)
            writer.close()


def read_requests(raw: bytes, *, whole: bool = True) -> list[Heard]:
    """Return the requests of one connection as h11 reads them; raises its RemoteProtocolError for anything else.

    With `whole`, nothing may be left over, and each head must be of the one form in which heads are sent.
    """
    found: list[Heard] = []
    parser = _parser(raw)
    request, body = None, b""
    while (event := parser.next_event()) is not h11.NEED_DATA and event is not h11.PAUSED:
        if isinstance(event, h11.Request):
            request, body = event, b""
        elif isinstance(event, h11.Data):
            body += event.data
        elif isinstance(event, h11.EndOfMessage) and request is not None:
            found.append(Heard(request.method, request.target, tuple(request.headers), body))
            parser = _parser(parser.trailing_data[0])
    if whole:
        _assert_form(raw, found)
    return found


def _parser(data: bytes) -> h11.Connection:
    parser = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
    if data:  # nothing would mean the end
        parser.receive_data(data)
    return parser


def _assert_form(raw: bytes, found: list[Heard]) -> None:
    at = 0
    for heard in found:
        head = _HEAD.match(raw, at)
        assert head is not None, raw[at:]
        at = head.end() + len(heard.body)
        assert raw[head.end() : at] == heard.body
    assert at == len(raw), raw[at:]
