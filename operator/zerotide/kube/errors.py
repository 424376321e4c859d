"""What can go wrong between a process and the API server.

KubeError
├── CredentialsError        no usable kubeconfig or in-cluster account
├── ConnectionFailed        no answer: refused, reset, timed out, TLS
├── SecretUnreadable        a Secret that a user named is not there, or may not be read
└── ApiError                the server answered with a Status
    ├── Unauthorized        401
    ├── Forbidden           403
    ├── NotFound            404
    ├── Conflict            409, somebody else changed or owns it
    │   └── AlreadyExists   409 on create
    ├── Gone                410, the resourceVersion is too old
    ├── Invalid             400 and 422, the object is refused
    ├── TooManyRequests     429, with retry_after in seconds
    └── Unavailable         5xx
"""

from __future__ import annotations

from typing import Any

from zerotide.kube.encoding import decode


class KubeError(Exception):
    """Any failure to talk with the API server."""


class CredentialsError(KubeError):
    """No usable kubeconfig, and not inside a cluster."""


class ConnectionFailed(KubeError):
    """The API server gave no answer."""


class SecretUnreadable(KubeError):
    """A Secret that a user named is not there, or cannot be read; nothing of it is repeated."""


class ApiError(KubeError):
    """The API server refused; status is the HTTP code, reason the machine-readable word of its Status."""

    def __init__(self, status: int, reason: str, message: str, *, retry_after: float = 0.0) -> None:
        super().__init__(message or f"{status} {reason}")
        self.status = status
        self.reason = reason
        self.message = message
        self.retry_after = retry_after


class Unauthorized(ApiError):
    """The credentials are not accepted."""


class Forbidden(ApiError):
    """The account lacks the permission, or a policy refuses."""


class NotFound(ApiError):
    """The object, or its whole kind, does not exist."""


class Conflict(ApiError):
    """Another writer changed the object or owns the field."""


class AlreadyExists(Conflict):
    """An object of that name is there already."""


class Gone(ApiError):
    """The resourceVersion is too old; list again."""


class Invalid(ApiError):
    """The object breaks its schema or a rule."""


class TooManyRequests(ApiError):
    """The server is overloaded; try again after retry_after seconds."""


class Unavailable(ApiError):
    """The server failed on its side."""


_BY_STATUS: dict[int, type[ApiError]] = {
    400: Invalid,
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    410: Gone,
    422: Invalid,
    429: TooManyRequests,
}


def error_from(status: int, body: bytes, retry_after: str = "") -> ApiError:
    """Build the exception that an HTTP answer stands for, from its code and its Status body."""
    try:
        parsed: Any = decode(body)
    except ValueError:
        parsed = None
    document: dict[str, Any] = parsed if isinstance(parsed, dict) else {}
    reason = str(document.get("reason") or "")
    message = str(document.get("message") or body[:500].decode("utf-8", "replace"))
    details = document.get("details")
    seconds = retry_after or (details.get("retryAfterSeconds", 0) if isinstance(details, dict) else 0)
    try:
        wait = float(seconds)
    except ValueError:
        wait = 0.0
    kind = AlreadyExists if reason == "AlreadyExists" else _BY_STATUS.get(status)
    if kind is None:
        kind = Unavailable if status >= 500 else ApiError
    return kind(status, reason, message, retry_after=wait)
