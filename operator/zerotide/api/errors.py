"""The errors that clients see: one table of codes, the two shapes of their bodies, their headers.

`TABLE` is the whole table; everything else here reads it. Clients retry 408, 409, 429 and 5xx by themselves, so 503
stands only where a retry within a minute can succeed, and x-should-retry says it in so many words.
"""

from __future__ import annotations

import json
from enum import Enum, StrEnum
from typing import Any, NamedTuple

from zerotide.api.conditions import Reason
from zerotide.api.failures import ApiError
from zerotide.api.protocol import Protocol
from zerotide.api.scalars import SECOND

SOON_US = 60 * SECOND
"""A start that is due within this time is worth a client's retry."""


class ErrorCode(StrEnum):
    """What went wrong, for programs; also the value of X-Zerotide-Error."""

    INVALID_REQUEST = "invalid_request"
    ENDPOINT_MISMATCH = "endpoint_mismatch"
    AMBIGUOUS_MODEL = "ambiguous_model"
    INVALID_API_KEY = "invalid_api_key"
    BUDGET_EXHAUSTED = "budget_exhausted"
    FORBIDDEN = "forbidden"
    MODEL_NOT_FOUND = "model_not_found"
    ENDPOINT_NOT_FOUND = "endpoint_not_found"
    ROUTE_NOT_FOUND = "route_not_found"
    REQUEST_TOO_LARGE = "request_too_large"
    CONSUMER_LIMIT = "consumer_limit"
    QUEUE_FULL = "queue_full"
    ENDPOINT_COLD = "endpoint_cold"
    HOLD_TIMEOUT = "hold_timeout"
    UNSCHEDULABLE = "unschedulable"
    LEDGER_UNAVAILABLE = "ledger_unavailable"
    START_BACKOFF = "start_backoff"
    SUSPENDED = "suspended"
    NEVER_SCHEDULABLE = "never_schedulable"
    IMAGE_PULL_FAILED = "image_pull_failed"
    CRASH_LOOPING = "crash_looping"
    OUT_OF_MEMORY = "out_of_memory"
    CREDENTIALS_MISSING = "credentials_missing"
    MODEL_DOWNLOAD_FAILED = "model_download_failed"
    POD_REFUSED = "pod_refused"
    INVALID_POD_TEMPLATE = "invalid_pod_template"
    START_DEADLINE_EXCEEDED = "start_deadline_exceeded"
    UPSTREAM_LOST = "upstream_lost"
    UPSTREAM_TIMEOUT = "upstream_timeout"


class RetryAfter(Enum):
    """Whether Retry-After is sent, and where its value comes from."""

    NONE = "none"
    ONE = "one second"
    ESTIMATE = "what remains of the start, from 1 to 60 s"


class Row(NamedTuple):
    """One row of the table; `should_retry` is x-should-retry, absent where None."""

    code: ErrorCode
    status: int
    type: str
    retry_after: RetryAfter
    should_retry: bool | None
    docs: str
    """What happened and what to do, for the documentation and for the message where nothing better is known."""


_BAD, _SERVER = "invalid_request_error", "server_error"
_COLD, _BUSY = "service_unavailable", "rate_limit_error"
_NO, _ONE, _ESTIMATE = RetryAfter.NONE, RetryAfter.ONE, RetryAfter.ESTIMATE
_C = ErrorCode

START_BACKOFF_SOON = Row(
    _C.START_BACKOFF, 503, _COLD, _ESTIMATE, True, "Starts failed; the next one is tried within a minute."
)
START_BACKOFF_LATER = Row(
    _C.START_BACKOFF, 500, _SERVER, _NO, False, "Starts failed again and again; see the endpoint's status."
)
TABLE: tuple[Row, ...] = (
    Row(_C.INVALID_REQUEST, 400, _BAD, _NO, None, "The request is not understood."),
    Row(_C.ENDPOINT_MISMATCH, 400, _BAD, _NO, None, "Host, path, header and model name different endpoints."),
    Row(_C.AMBIGUOUS_MODEL, 400, _BAD, _NO, None, "Several endpoints have this model: name one, or its host."),
    Row(_C.INVALID_API_KEY, 401, _BAD, _NO, None, "The API key or token is missing, unknown, expired or revoked."),
    Row(_C.BUDGET_EXHAUSTED, 402, "insufficient_quota", _NO, False, "The budget is used up until it resets."),
    Row(_C.FORBIDDEN, 403, "permission_error", _NO, None, "The API key does not open this endpoint."),
    Row(_C.MODEL_NOT_FOUND, 404, _BAD, _NO, None, "No endpoint that the caller may use has this model."),
    Row(_C.ENDPOINT_NOT_FOUND, 404, _BAD, _NO, None, "There is no such endpoint."),
    Row(_C.ROUTE_NOT_FOUND, 404, _BAD, _NO, None, "Only inference routes are served."),
    Row(_C.REQUEST_TOO_LARGE, 413, _BAD, _NO, None, "The body is larger than request.maxBodyBytes."),
    Row(_C.CONSUMER_LIMIT, 429, _BUSY, _ONE, True, "Too many requests of this consumer at a time."),
    Row(_C.QUEUE_FULL, 429, _BUSY, _ESTIMATE, True, "As many requests are held as hold allows."),
    Row(_C.ENDPOINT_COLD, 503, _COLD, _ESTIMATE, True, "The endpoint is waking and does not hold requests."),
    Row(_C.HOLD_TIMEOUT, 503, _COLD, _ESTIMATE, True, "No replica was ready in time; the start goes on."),
    Row(_C.UNSCHEDULABLE, 503, _COLD, _ESTIMATE, True, "No node has room for the endpoint now."),
    Row(_C.LEDGER_UNAVAILABLE, 503, _COLD, _ESTIMATE, True, "Usage cannot be recorded now."),
    START_BACKOFF_SOON,
    START_BACKOFF_LATER,
    Row(_C.SUSPENDED, 500, _SERVER, _NO, False, "The endpoint is suspended by its owner."),
    Row(_C.NEVER_SCHEDULABLE, 500, _SERVER, _NO, False, "No node could ever hold the endpoint's pods."),
    Row(_C.IMAGE_PULL_FAILED, 500, _SERVER, _NO, False, "The runtime image cannot be pulled."),
    Row(_C.CRASH_LOOPING, 500, _SERVER, _NO, False, "The runtime ends again and again while it starts."),
    Row(_C.OUT_OF_MEMORY, 500, _SERVER, _NO, False, "The runtime needs more memory than its limit."),
    Row(
        _C.CREDENTIALS_MISSING,
        500,
        _SERVER,
        _NO,
        False,
        "A Secret, or an issuer's keys, that the endpoint names cannot be had.",
    ),
    Row(_C.MODEL_DOWNLOAD_FAILED, 500, _SERVER, _NO, False, "The model cannot be fetched from model.uri."),
    Row(_C.POD_REFUSED, 500, _SERVER, _NO, False, "The cluster refuses the endpoint's objects or volumes."),
    Row(_C.INVALID_POD_TEMPLATE, 500, _SERVER, _NO, False, "podTemplate does not make a valid pod."),
    Row(_C.START_DEADLINE_EXCEEDED, 500, _SERVER, _NO, False, "The start took longer than start.deadline."),
    Row(_C.UPSTREAM_LOST, 502, _SERVER, _NO, False, "The replica was lost while it answered."),
    Row(_C.UPSTREAM_TIMEOUT, 504, _SERVER, _NO, False, "The answer took longer than request.timeout."),
)
_ROWS = {row.code: row for row in TABLE if row is not START_BACKOFF_LATER}

REASONS: dict[Reason, ErrorCode] = {
    Reason.UNSCHEDULABLE: _C.UNSCHEDULABLE,
    Reason.NEVER_SCHEDULABLE: _C.NEVER_SCHEDULABLE,
    Reason.IMAGE_PULL_FAILED: _C.IMAGE_PULL_FAILED,
    Reason.CRASH_LOOPING: _C.CRASH_LOOPING,
    Reason.OUT_OF_MEMORY: _C.OUT_OF_MEMORY,
    Reason.START_DEADLINE_EXCEEDED: _C.START_DEADLINE_EXCEEDED,
    Reason.START_BACKOFF: _C.START_BACKOFF,
    Reason.MODEL_DOWNLOAD_FAILED: _C.MODEL_DOWNLOAD_FAILED,
    Reason.CREDENTIALS_MISSING: _C.CREDENTIALS_MISSING,
    Reason.VOLUME_FAILED: _C.POD_REFUSED,
    Reason.POD_REFUSED: _C.POD_REFUSED,
    Reason.INVALID_POD_TEMPLATE: _C.INVALID_POD_TEMPLATE,
    Reason.NAME_CONFLICT: _C.POD_REFUSED,
    Reason.EXTERNAL_WRITER: _C.POD_REFUSED,
    Reason.SUSPENDED: _C.SUSPENDED,
    Reason.BUDGET_EXHAUSTED: _C.BUDGET_EXHAUSTED,
}
"""The code with which requests are answered while Accepting is False for a reason."""


def code_of_reason(reason: str) -> ErrorCode:
    """Return the code for the reason of `Accepting=False`; a reason that is not known here is `endpoint_cold`."""
    try:
        return REASONS.get(Reason(reason), ErrorCode.ENDPOINT_COLD)
    except ValueError:
        return ErrorCode.ENDPOINT_COLD


def row(code: ErrorCode, due_us: int | None = None) -> Row:
    """Return the row of a code; `due_us` is the time until the next start, which decides about `start_backoff`."""
    if code is ErrorCode.START_BACKOFF and (due_us is None or due_us > SOON_US):
        return START_BACKOFF_LATER
    return _ROWS[code]


class Rejection(ApiError):
    """A request that is answered with a row of the table.

    `ready_in_us` is the measured time until a retry can succeed, if known.
    """

    def __init__(
        self, code: ErrorCode, message: str = "", *, ready_in_us: int | None = None, param: str | None = None
    ) -> None:
        self.row = row(code, ready_in_us)
        self.code = code
        self.message = message or self.row.docs
        self.ready_in_us = ready_in_us
        self.param = param
        super().__init__(self.message)


def error_body(
    code: ErrorCode, message: str, protocol: Protocol, *, due_us: int | None = None, param: str | None = None
) -> bytes:
    """Return the JSON body of an error in the protocol's shape."""
    return _json(_content(row(code, due_us), message, protocol, param))


def error_event(
    code: ErrorCode, message: str, protocol: Protocol, *, due_us: int | None = None, param: str | None = None
) -> bytes:
    """Return an error as a server-sent event, for streams whose status 200 is already sent.

    Clients look at `error` first; the HTTP status that it would have had stands last. The connection must be
    aborted afterwards: a clean end would be taken for a complete answer.
    """
    line = row(code, due_us)
    content = _content(line, message, protocol, param)
    target = content["error"] if protocol is Protocol.OPENAI else content
    target["status"] = line.status
    return b"data: " + _json(content) + b"\n\n"


def retry_after_seconds(line: Row, ready_in_us: int | None, jitter: float = 0.0) -> int | None:
    """Return Retry-After, or None where there is none.

    `ready_in_us` is the measured p90 of what remains of the start; without it the answer is 10. `jitter` from -1
    to 1 moves it by up to a tenth, so that clients do not come back in one wave.
    """
    if line.retry_after is RetryAfter.NONE:
        return None
    if line.retry_after is RetryAfter.ONE:
        return 1
    if ready_in_us is None:
        return 10
    return max(1, min(60, round(ready_in_us * (1 + jitter / 10) / SECOND)))


def error_headers(code: ErrorCode, *, ready_in_us: int | None = None, jitter: float = 0.0) -> dict[str, str]:
    """Return the headers of an error: Content-Type, X-Zerotide-Error and what clients need to retry well."""
    line = row(code, ready_in_us)
    headers = {"Content-Type": "application/json", "X-Zerotide-Error": code.value}
    seconds = retry_after_seconds(line, ready_in_us, jitter)
    if seconds is not None:
        headers["Retry-After"] = str(seconds)
    if line.retry_after is RetryAfter.ESTIMATE and ready_in_us is not None:
        headers["X-Zerotide-Ready-In"] = str(-(-max(ready_in_us, 0) // SECOND))
    if line.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    if line.should_retry is not None:
        headers["x-should-retry"] = "true" if line.should_retry else "false"
    return headers


def tgi_error_type(line: Row) -> str:
    """Return `error_type` on TGI routes."""
    if line.status == 429:
        return "overloaded"
    return "validation" if line.status in (400, 413) else line.code.value


def _content(line: Row, message: str, protocol: Protocol, param: str | None) -> dict[str, Any]:
    text = message or line.docs
    if protocol is Protocol.OPENAI:
        return {"error": {"message": text, "type": line.type, "param": param, "code": line.code.value}}
    return {"error": text, "error_type": tgi_error_type(line)}


def _json(content: dict[str, Any]) -> bytes:
    return json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
