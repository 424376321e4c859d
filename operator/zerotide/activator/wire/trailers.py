"""Trailers: fields that follow a body. They never say anything about framing, routing, credentials or content."""

from __future__ import annotations

from zerotide.activator.wire.message import HOP_BY_HOP, Headers

_FORBIDDEN = HOP_BY_HOP | frozenset(
    (
        b"age",
        b"allow",
        b"authorization",
        b"cache-control",
        b"cookie",
        b"date",
        b"expect",
        b"expires",
        b"forwarded",
        b"host",
        b"location",
        b"max-forwards",
        b"pragma",
        b"range",
        b"retry-after",
        b"set-cookie",
        b"vary",
        b"via",
        b"warning",
        b"www-authenticate",
        b"x-request-id",
        b"x-should-retry",
    )
)
"""RFC 9110, 6.5.1: what must be known before the body, or could change how it was understood."""
_FORBIDDEN_PREFIXES = (
    b":",
    b"accept",
    b"access-control-",
    b"content-",
    b"if-",
    b"sec-",
    b"x-forwarded-",
    b"x-zerotide-",
)


def accepts_trailers(headers: Headers) -> bool:
    """Tell whether a client reads trailers: its `TE` says so."""
    return any(
        name == b"te" and any(coding.partition(b";")[0].strip().lower() == b"trailers" for coding in value.split(b","))
        for name, value in headers
    )


def passable(trailers: Headers) -> Headers:
    """Return the trailers that may be passed on."""
    return [
        (name, value) for name, value in trailers if name not in _FORBIDDEN and not name.startswith(_FORBIDDEN_PREFIXES)
    ]
