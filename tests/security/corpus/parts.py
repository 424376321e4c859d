"""The pieces that hostile requests are made of. `{auth}` stands for a valid credential, so that nothing but the form
is wrong.
"""

from __future__ import annotations

BODY = b'{"model":"m"}'
LINE = b"POST /v1/completions HTTP/1.1\r\n"
HEAD = LINE + b"Host: m.demo\r\n{auth}"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
LENGTH = b"Content-Length: 13\r\n"
END = LENGTH + b"\r\n" + BODY
WHOLE = b"d\r\n" + BODY + b"\r\n0\r\n\r\n"


def to(target: bytes) -> bytes:
    """Return a request for another target."""
    return HEAD.replace(b"/v1/completions", target) + END


def by(method: bytes) -> bytes:
    """Return a request by another method."""
    return HEAD.replace(b"POST", method) + END


def with_lines(*lines: bytes) -> bytes:
    """Return a request with more lines in its head."""
    return HEAD + b"".join(line + b"\r\n" for line in lines) + END


def coded(value: bytes) -> bytes:
    """Return a chunked request whose Transfer-Encoding has this value, what follows the colon included."""
    return HEAD + b"Transfer-Encoding:" + value + b"\r\n\r\n" + WHOLE


def measured(value: bytes) -> bytes:
    """Return a request whose Content-Length has this value, what follows the colon included."""
    return HEAD + b"Content-Length:" + value + b"\r\n\r\n" + BODY
