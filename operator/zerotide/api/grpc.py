"""gRPC's words for what happens to a request: statuses for the table of errors, messages, deadlines.

Written from gRPC's "PROTOCOL-HTTP2" and its status codes.
"""

from __future__ import annotations

import re

from zerotide.api.errors import ErrorCode, row

OK, UNKNOWN = 0, 2
_INVALID_ARGUMENT, _DEADLINE_EXCEEDED, _NOT_FOUND, _PERMISSION_DENIED = 3, 4, 5, 7
_RESOURCE_EXHAUSTED, _FAILED_PRECONDITION, _UNIMPLEMENTED, _UNAVAILABLE, _UNAUTHENTICATED = 8, 9, 12, 14, 16

_BY_CODE = {ErrorCode.ROUTE_NOT_FOUND: _UNIMPLEMENTED, ErrorCode.UPSTREAM_TIMEOUT: _DEADLINE_EXCEEDED}
_BY_STATUS = {
    400: _INVALID_ARGUMENT,
    401: _UNAUTHENTICATED,
    402: _RESOURCE_EXHAUSTED,
    403: _PERMISSION_DENIED,
    404: _NOT_FOUND,
    413: _RESOURCE_EXHAUSTED,
    429: _RESOURCE_EXHAUSTED,
    500: _FAILED_PRECONDITION,
    502: _UNAVAILABLE,
    503: _UNAVAILABLE,
}
_HTTP = {0: 200, 1: 499, 3: 400, 4: 504, 5: 404, 6: 409, 7: 403, 8: 429, 9: 400, 10: 409, 11: 400, 12: 501, 14: 503}
_HTTP[16] = 401
_PLAIN = frozenset(range(0x20, 0x7F)) - {0x25}
_TIMEOUT = re.compile(r"([0-9]{1,8})([HMSmun])")
_UNITS = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}
_LONGEST_MS = 99_999_999


def status_of(code: ErrorCode, due_us: int | None = None) -> int:
    """Return the gRPC status of a row of the table; `due_us` is the time until the next start."""
    return _BY_CODE.get(code) or _BY_STATUS.get(row(code, due_us).status, UNKNOWN)


def http_status_of(status: int) -> int:
    """Return the HTTP status that says the same, for figures that count both; 500 for whatever has none."""
    return _HTTP.get(status, 500)


def encode_message(message: str) -> str:
    """Return a message as the value of `grpc-message`: bytes that a header cannot carry are percent-encoded."""
    return "".join(chr(byte) if byte in _PLAIN else f"%{byte:02X}" for byte in message.encode())


def parse_timeout(value: str) -> float | None:
    """Return the seconds of a `grpc-timeout`, None where it is none."""
    match = _TIMEOUT.fullmatch(value)
    return int(match[1]) * _UNITS[match[2]] if match else None


def format_timeout(seconds: float) -> str:
    """Return a `grpc-timeout`, in milliseconds, one at least."""
    return f"{min(max(round(seconds * 1000), 1), _LONGEST_MS)}m"
