"""What llhttp lets pass and we do not: heads that two servers could read in two ways.

llhttp, in its strict mode, refuses Content-Length beside Transfer-Encoding, repeated lengths, bare LF, folded
headers, white space before the colon and control characters in values. The rest is refused here.
"""

from __future__ import annotations

import re

from zerotide.activator.failures import MalformedRequest
from zerotide.activator.wire.message import Headers, Request, connection_tokens

_HOST = re.compile(rb"[A-Za-z0-9._-]{1,253}(:[0-9]{1,5})?|\[[0-9A-Fa-f:.]{2,45}\](:[0-9]{1,5})?")
_TARGET = re.compile(rb"/[\x21\x22\x24-\x7e]*")
_SINGLE = frozenset((b"host", b"content-length", b"transfer-encoding", b"content-type", b"authorization", b"expect"))
_BODILESS = frozenset(("GET", "HEAD", "OPTIONS", "DELETE"))


def read_head(method: str, target: bytes, version: str, headers: Headers, keep_alive: bool) -> Request:
    """Return the request of a head that llhttp took, or raise MalformedRequest.

    Header names are lower-case and values are stripped.
    """
    if version != "1.1":
        raise MalformedRequest(f"HTTP/{version} is not spoken here: use HTTP/1.1")
    if method == "CONNECT":
        raise MalformedRequest("CONNECT is not served: this is no forward proxy")
    _check_target(method, target)
    single = _single_headers(headers)
    host = single.get(b"host")
    if host is None:
        raise MalformedRequest("the request has no Host header")
    if host and _HOST.fullmatch(host) is None:
        raise MalformedRequest("the Host header is not a host")
    length, chunked = _framing(method, single)
    return Request(
        method,
        target.decode("latin-1"),
        headers,
        length=length,
        chunked=chunked,
        keep_alive=keep_alive,
        expects_continue=_expects_continue(single),
    )


def without_upgrade(method: str, target: bytes, headers: Headers) -> bytes:
    """Return the head of a request anew, its wish to change the protocol left out."""
    close = b"close" in connection_tokens(headers)
    dropped = (b"connection", b"upgrade", b"http2-settings")
    lines = [name + b": " + value for name, value in headers if name not in dropped]
    if close:
        lines.append(b"connection: close")
    return b"\r\n".join((method.encode() + b" " + target + b" HTTP/1.1", *lines, b"", b""))


def _check_target(method: str, target: bytes) -> None:
    if method == "OPTIONS" and target == b"*":
        return
    if not target.startswith(b"/"):
        raise MalformedRequest("the request target must be a path: absolute targets are for forward proxies")
    if _TARGET.fullmatch(target) is None:
        raise MalformedRequest("the request target has characters that must be percent-encoded")


def _single_headers(headers: Headers) -> dict[bytes, bytes]:
    found: dict[bytes, bytes] = {}
    for name, value in headers:
        if name in _SINGLE:
            if name in found:
                raise MalformedRequest(f"the header {name.decode()} is given twice")
            found[name] = value
    return found


def _framing(method: str, single: dict[bytes, bytes]) -> tuple[int | None, bool]:
    coding, length = single.get(b"transfer-encoding"), single.get(b"content-length")
    if coding is not None:
        if coding.lower() != b"chunked":
            raise MalformedRequest("the only transfer coding that is understood is chunked")
        if length is not None:
            raise MalformedRequest("Content-Length and Transfer-Encoding exclude each other")
        if method in _BODILESS:
            raise MalformedRequest(f"{method} takes no body here")
        return None, True
    if length is None:
        return None, False
    if not length.isdigit():
        raise MalformedRequest("Content-Length is not a number")
    if method in _BODILESS and int(length):
        raise MalformedRequest(f"{method} takes no body here")
    return int(length), False


def _expects_continue(single: dict[bytes, bytes]) -> bool:
    expect = single.get(b"expect", b"")
    if expect and expect.lower() != b"100-continue":
        raise MalformedRequest("the only expectation that is understood is 100-continue")
    return bool(expect)
