"""HTTP requests and responses, and an incremental parser of the former. Pure: bytes in, requests out."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any
from urllib.parse import unquote

MAX_HEAD = 32 << 10
MAX_CHUNK_LINE = 256

TOKEN = re.compile(rb"^[!#$%&'*+.^_`|~0-9A-Za-z-]+$")
REQUEST_LINE = re.compile(rb"^([A-Z]{1,16}) (/[!-~]*) HTTP/1\.([01])$")
CHUNK_SIZE = re.compile(rb"^([0-9A-Fa-f]{1,8})[ \t]*(;.*)?$")


class BadMessage(Exception):
    """The bytes are not an acceptable HTTP request; the connection ends with `status`."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class StreamBroken(Exception):
    """A streamed answer cannot be completed; what was sent so far says why."""


@dataclass(eq=False)
class Request:
    """One request with its whole body; header names are in lower case."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes = b""
    keep_alive: bool = True
    query: str = ""
    _cleanups: list[Callable[[], None]] = field(default_factory=list)

    def on_finish(self, cleanup: Callable[[], None]) -> None:
        """Have something done once the request is over: answered, failed, or its client gone."""
        self._cleanups.append(cleanup)

    def finish(self) -> None:
        """Run the clean-ups, the latest first."""
        while self._cleanups:
            self._cleanups.pop()()


@dataclass(frozen=True)
class Response:
    """An answer in one piece."""

    status: int
    body: bytes = b""
    content_type: str = "application/json"
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class StreamResponse:
    """An answer of which the pieces are sent as they come."""

    chunks: AsyncIterator[bytes]
    content_type: str = "text/event-stream"
    headers: dict[str, str] = field(default_factory=dict)
    status: int = 200


Handler = Callable[[Request], Awaitable[Response | StreamResponse]]


def json_response(status: int, content: Any, headers: dict[str, str] | None = None) -> Response:
    """Return an answer with a JSON body."""
    return Response(status, dump_json(content), headers=headers or {})


def dump_json(content: Any) -> bytes:
    """Encode JSON without spaces and without escaping what UTF-8 can say."""
    return json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode("utf-8", errors="replace")


def head(status: int, content_type: str, headers: dict[str, str], framing: str, keep_alive: bool) -> bytes:
    """Return the status line and the header fields; `framing` says how long the body is."""
    lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}", f"content-type: {content_type}", framing]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    lines.append("connection: keep-alive" if keep_alive else "connection: close")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


class RequestParser:
    """Cut a stream of bytes into requests; strict where leniency lets two parties read different requests."""

    def __init__(self, max_body: int) -> None:
        self._max_body = max_body
        self._buffer = bytearray()
        self._request: Request | None = None
        self._length: int | None = None  # None: chunked
        self._body = bytearray()

    @property
    def started(self) -> bool:
        """Tell whether a part of a request has come."""
        return bool(self._buffer) or self._request is not None

    @property
    def buffered(self) -> int:
        """Count the bytes that no request was made of yet."""
        return len(self._buffer)

    def wants_continue(self) -> bool:
        """Tell, once per request, whether the client waits for a go-ahead before it sends the body."""
        if self._request is None or self._buffer:
            return False
        return self._request.headers.pop("expect", "").lower() == "100-continue"

    def feed(self, data: bytes) -> None:
        """Add received bytes."""
        self._buffer += data

    def take(self) -> Request | None:
        """Return the next complete request, or None while it is incomplete; raise BadMessage."""
        if self._request is None:
            self._request = self._take_head()
            if self._request is None:
                return None
            self._length = self._body_length(self._request.headers)
            self._body.clear()
        if not (self._take_chunks() if self._length is None else self._take_exactly(self._length)):
            return None
        request, self._request = self._request, None
        request.body = bytes(self._body)
        return request

    def _take_head(self) -> Request | None:
        while self._buffer.startswith(b"\r\n"):  # some clients send an empty line after a body
            del self._buffer[:2]
        end = self._buffer.find(b"\r\n\r\n")
        if end > MAX_HEAD or (end < 0 and len(self._buffer) > MAX_HEAD):
            raise BadMessage(431, f"the request's header is larger than {MAX_HEAD} bytes")
        if end < 0:
            return None
        first, *lines = bytes(self._buffer[:end]).split(b"\r\n")
        del self._buffer[: end + 4]
        match = REQUEST_LINE.match(first)
        if match is None:
            raise BadMessage(400, "the request line is malformed")
        headers = _parse_headers(lines)
        if match[3] == b"1" and "host" not in headers:
            raise BadMessage(400, "the Host header is missing")
        connection = headers.get("connection", "").lower()
        keep_alive = "close" not in connection and (match[3] == b"1" or "keep-alive" in connection)
        path, _, query = match[2].decode("ascii").partition("?")
        return Request(match[1].decode("ascii"), unquote(path), headers, keep_alive=keep_alive, query=query)

    def _body_length(self, headers: dict[str, str]) -> int | None:
        length, encoding = headers.get("content-length"), headers.get("transfer-encoding")
        if encoding is not None:
            if length is not None:
                raise BadMessage(400, "Content-Length and Transfer-Encoding contradict each other")
            if encoding.lower() != "chunked":
                raise BadMessage(501, f"the transfer encoding {encoding!r} is not known")
            return None
        if "content-encoding" in headers and headers["content-encoding"].lower() != "identity":
            raise BadMessage(415, "compressed requests are not accepted")
        if length is None:
            return 0
        if not (length.isascii() and length.isdigit()):
            raise BadMessage(400, "Content-Length is not a number")
        self._check_size(int(length))
        return int(length)

    def _check_size(self, size: int) -> None:
        if size > self._max_body:
            raise BadMessage(413, f"the request's body is larger than {self._max_body} bytes")

    def _take_exactly(self, length: int) -> bool:
        if len(self._buffer) < length:
            return False
        self._body += self._buffer[:length]
        del self._buffer[:length]
        return True

    def _take_chunks(self) -> bool:
        """Move complete chunks into the body; return whether the last one has come."""
        while (end := self._buffer.find(b"\r\n", 0, MAX_CHUNK_LINE)) >= 0:
            match = CHUNK_SIZE.match(self._buffer[:end])
            if match is None:
                raise BadMessage(400, "a chunk's size is malformed")
            size = int(match[1], 16)
            self._check_size(len(self._body) + size)
            if size == 0:
                return self._take_trailers(end + 2)
            if len(self._buffer) < end + 2 + size + 2:
                return False
            if self._buffer[end + 2 + size : end + 4 + size] != b"\r\n":
                raise BadMessage(400, "a chunk is longer than its size")
            self._body += self._buffer[end + 2 : end + 2 + size]
            del self._buffer[: end + 4 + size]
        if len(self._buffer) >= MAX_CHUNK_LINE:
            raise BadMessage(400, "a chunk's size line is too long")
        return False

    def _take_trailers(self, start: int) -> bool:
        if self._buffer.startswith(b"\r\n", start):
            del self._buffer[: start + 2]
            return True
        end = self._buffer.find(b"\r\n\r\n", start)
        if end < 0:
            if len(self._buffer) > MAX_HEAD:
                raise BadMessage(431, "the request's trailer is too large")
            return False
        del self._buffer[: end + 4]
        return True


SINGLE = {"content-length", "transfer-encoding", "host", "content-encoding"}


def _parse_headers(lines: list[bytes]) -> dict[str, str]:
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(b":")
        if not colon or not TOKEN.match(name) or any(byte in value for byte in b"\n\r\0"):
            raise BadMessage(400, "a header field is malformed")
        key, text = name.decode("ascii").lower(), value.strip(b" \t").decode("latin-1")
        if key in headers:
            if key in SINGLE:
                raise BadMessage(400, f"the header {key} is given twice")
            text = f"{headers[key]}, {text}"
        headers[key] = text
    return headers
