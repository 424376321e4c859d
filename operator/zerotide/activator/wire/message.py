"""Heads of requests and answers: reading them by RFC 9110 and 9112, and writing them.

Header names are lower-case bytes throughout.
"""

from __future__ import annotations

from collections.abc import Iterable
from http import HTTPStatus
from typing import Any

Headers = list[tuple[bytes, bytes]]

HOP_BY_HOP = frozenset(
    (
        b"connection",
        b"keep-alive",
        b"proxy-connection",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
        b"http2-settings",
    )
)
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
LAST_CHUNK = b"0\r\n\r\n"

_STATUS_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus}


class Request:
    """The head of a request whose framing is beyond doubt."""

    __slots__ = ("chunked", "expects_continue", "headers", "keep_alive", "length", "method", "reading", "target")

    def __init__(
        self,
        method: str,
        target: str,
        headers: Headers,
        *,
        length: int | None,
        chunked: bool,
        keep_alive: bool,
        expects_continue: bool,
    ) -> None:
        self.method = method
        self.target = target
        self.headers = headers
        self.length = length
        """Bytes of the body as announced; None where it is chunked or there is none. Requests that came whole
        may share a head whatever their length: theirs is that of the body that they have."""
        self.chunked = chunked
        self.keep_alive = keep_alive
        self.expects_continue = expects_continue
        self.reading: Any = None
        """What the handler makes of the head, kept for requests that share it."""

    @property
    def has_body(self) -> bool:
        """Tell whether a body follows the head."""
        return self.chunked or bool(self.length)

    @property
    def is_plain(self) -> bool:
        """Tell whether a head that differs only in its length says the same but for that."""
        bounded = not self.chunked and not self.expects_continue
        return bounded and (self.length is None or self.method in ("POST", "PUT", "PATCH"))

    @property
    def path(self) -> str:
        """Return the target without its query, not decoded."""
        return self.target.partition("?")[0]

    def get(self, name: bytes) -> str:
        """Return the first value of a header, empty where there is none."""
        for key, value in self.headers:
            if key == name:
                return value.decode("latin-1")
        return ""


def end_to_end(headers: Headers, drop: frozenset[bytes] = frozenset()) -> Headers:
    """Return the headers that travel on: neither hop-by-hop, nor named by Connection, nor in `drop`."""
    named = connection_tokens(headers)
    unwanted = HOP_BY_HOP | drop
    return [
        (name, value) for name, value in headers if name not in unwanted and (not named or name.lower() not in named)
    ]


def connection_tokens(headers: Iterable[tuple[bytes, bytes]]) -> frozenset[bytes]:
    """Return the lower-case tokens of all Connection headers."""
    values = [value for name, value in headers if name == b"connection"]
    if not values:
        return frozenset()
    return frozenset(token.strip().lower() for value in values for token in value.split(b",")) - {b""}


def render_request(method: str, target: str, headers: Headers, body: bytes) -> tuple[bytes, bytes]:
    """Return the head of a request, its body framed by Content-Length, and the body."""
    parts = [f"{method} {target} HTTP/1.1\r\n".encode("latin-1")]
    _append(parts, headers)
    if body or method in ("POST", "PUT", "PATCH"):
        parts.append(b"content-length: %d\r\n" % len(body))
    parts.append(b"\r\n")
    return b"".join(parts), body


def render_head(status: int, headers: Headers, *, length: int | None, bodiless: bool, close: bool) -> bytes:
    """Return the head of an answer: with a length, else chunked, or neither where it has no body by nature."""
    parts = [status_line(status)]
    _append(parts, headers)
    if length is not None and status != 204:
        parts.append(b"content-length: %d\r\n" % length)
    elif not bodiless:
        parts.append(b"transfer-encoding: chunked\r\n")
    parts.append(b"connection: close\r\n\r\n" if close else b"\r\n")
    return b"".join(parts)


def status_line(status: int) -> bytes:
    """Return the first line of an answer, with its end."""
    return _STATUS_LINES.get(status) or b"HTTP/1.1 %d \r\n" % status


def render_lines(headers: Headers) -> bytes:
    """Return header lines, each with its end."""
    return b"".join([b"%b: %b\r\n" % header for header in headers])


def render_last_chunk(trailers: Headers) -> bytes:
    """Return the end of a chunked body, with its trailers."""
    parts = [b"0\r\n"]
    _append(parts, trailers)
    parts.append(b"\r\n")
    return b"".join(parts)


def _append(parts: list[bytes], headers: Headers) -> None:
    for name, value in headers:
        parts.append(name)
        parts.append(b": ")
        parts.append(value)
        parts.append(b"\r\n")
