"""What the engine lets pass and we do not: heads that an HTTP/1.1 replica could read in another way.

The engine refuses pseudo-headers that are missing, repeated, misplaced or unknown, connection-specific headers, upper
case, line breaks and NUL, `host` that differs from `:authority`, and bodies that differ from their Content-Length.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from zerotide.activator.failures import HeadTooLarge, MalformedRequest
from zerotide.activator.wire.message import Headers, Request
from zerotide.activator.wire.strict import read_head

MAX_HEADERS = 128
_NAME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]+")
_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")


def read_request(headers: Iterable[tuple[bytes, bytes]], *, ended: bool) -> Request:
    """Return the request of a block of headers; `ended` tells that no body follows.

    Raises MalformedRequest or HeadTooLarge.
    """
    pseudo: dict[bytes, bytes] = {}
    plain: Headers = []
    for name, value in headers:
        if name.startswith(b":"):
            pseudo[name] = value
            continue
        if _NAME.fullmatch(name) is None or _CONTROL.search(value) is not None:
            raise MalformedRequest("a header has characters that it must not have")
        plain.append((bytes(name), bytes(value)))
    if len(plain) > MAX_HEADERS:
        raise HeadTooLarge(f"the request has more than {MAX_HEADERS} headers")
    if pseudo.get(b":scheme", b"http") not in (b"http", b"https"):
        raise MalformedRequest("the scheme must be http or https")
    if any(name == b"upgrade" for name, _ in plain):
        raise MalformedRequest("HTTP/2 has no upgrades")
    authority = pseudo.get(b":authority")
    if authority is not None:
        plain = [(b"host", bytes(authority)), *(header for header in plain if header[0] != b"host")]
    method = pseudo[b":method"].decode("latin-1")
    request = read_head(method, bytes(pseudo.get(b":path", b"")), "1.1", plain, True)
    if ended and request.length:
        raise MalformedRequest("Content-Length announces a body, and there is none")
    request.chunked = not ended and request.length is None
    return request
