"""Answers of the gateway's own: errors in the protocol's shape, heads that carry what clients rely on."""

from __future__ import annotations

import json
import random
from typing import Any, TypeGuard

from zerotide.activator.failures import (
    BodyTooLarge,
    BuffersFull,
    HeadTooLarge,
    PeerFault,
    RequestTooOld,
    ShuttingDown,
)
from zerotide.activator.traffic.visit import Visit
from zerotide.activator.wire import Exchange, Headers, end_to_end
from zerotide.activator.wire.h2.stream import Stream
from zerotide.api.errors import ErrorCode, Rejection, error_body, error_event, error_headers
from zerotide.api.grpc import encode_message, status_of
from zerotide.api.protocol import Protocol

_FORGED = (b"x-zerotide-",)
_OURS = frozenset((b"content-length", b"x-request-id"))
STREAM_HEADERS: Headers = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
]


def rejection_of(fault: PeerFault) -> Rejection:
    """Return the row of the table for a request that its client got wrong."""
    if isinstance(fault, BodyTooLarge | HeadTooLarge):
        return Rejection(ErrorCode.REQUEST_TOO_LARGE, fault.message)
    if isinstance(fault, BuffersFull):
        return Rejection(ErrorCode.QUEUE_FULL, fault.message)
    if isinstance(fault, RequestTooOld):
        return Rejection(ErrorCode.UPSTREAM_TIMEOUT, fault.message)
    if isinstance(fault, ShuttingDown):
        return Rejection(ErrorCode.HOLD_TIMEOUT, fault.message)
    return Rejection(ErrorCode.INVALID_REQUEST, fault.message)


def answer_to_fault(fault: PeerFault) -> tuple[int, Headers, bytes]:
    """Return the answer to bytes that are no request: nobody knows its protocol, so it is OpenAI's."""
    rejection = rejection_of(fault)
    headers = [(name.lower().encode(), value.encode()) for name, value in error_headers(rejection.code).items()]
    return rejection.row.status, headers, error_body(rejection.code, rejection.message, Protocol.OPENAI)


def identity(visit: Visit) -> Headers:
    """Return the headers that every answer carries."""
    return [(b"x-request-id", visit.shown_id.encode("latin-1"))]


def passage(visit: Visit) -> Headers:
    """Return the headers that tell how a request came to its replica."""
    told: Headers = []
    if visit.elsewhere is not None:
        # Only requests that go by a task are served elsewhere, so `passage_lines` needs no word of it.
        endpoint, cause = visit.elsewhere
        told = [(b"x-zerotide-fallback", endpoint.encode()), (b"x-zerotide-fallback-cause", cause.encode())]
    return [
        *identity(visit),
        *told,
        (b"x-zerotide-cold-start", b"true" if visit.cold else b"false"),
        (b"x-zerotide-queue-ms", b"%d" % visit.queued_ms),
    ]


def passage_lines(visit: Visit) -> bytes:
    """Return the same headers rendered."""
    return b"x-request-id: %b\r\nx-zerotide-cold-start: %b\r\nx-zerotide-queue-ms: %d\r\n" % (
        visit.shown_id.encode("latin-1"),
        b"true" if visit.cold else b"false",
        visit.queued_ms,
    )


def relayed(headers: Headers, visit: Visit) -> Headers:
    """Return a replica's headers as its client gets them."""
    return passed_on(headers) + passage(visit)


def passed_on(headers: Headers) -> Headers:
    """Return those of a replica's headers that travel on."""
    return [(name, value) for name, value in end_to_end(headers, _OURS) if not name.startswith(_FORGED)]


def send_rejection(visit: Visit, rejection: Rejection, rng: random.Random) -> None:
    """Answer with a row of the table: as an answer, or within a stream that has begun already."""
    visit.status = rejection.row.status
    exchange = visit.exchange
    due_us = rejection.ready_in_us
    if is_call(exchange):
        _refuse_call(visit, exchange, rejection, rng)
        return
    if exchange.started:
        exchange.write(
            error_event(rejection.code, rejection.message, visit.protocol, due_us=due_us, param=rejection.param)
        )
        exchange.cut()
        return
    told = error_headers(rejection.code, ready_in_us=due_us, jitter=rng.uniform(-1, 1))
    headers = [(name.lower().encode(), value.encode()) for name, value in told.items()]
    body = error_body(rejection.code, rejection.message, visit.protocol, due_us=due_us, param=rejection.param)
    exchange.send(rejection.row.status, headers + identity(visit), body)


def is_call(exchange: Exchange) -> TypeGuard[Stream]:
    """Tell whether a request is a call of gRPC: only HTTP/2 can carry one."""
    content_type = exchange.request.get(b"content-type") if isinstance(exchange, Stream) else ""
    return content_type.startswith("application/grpc") and content_type[16:17] in ("", "+", ";")


def _refuse_call(visit: Visit, stream: Stream, rejection: Rejection, rng: random.Random) -> None:
    """Answer a call with a status of gRPC, in trailers where its answer has begun already.

    The time after which a retry can succeed is told as gRPC's clients read it; a negative one forbids it.
    """
    due_us = rejection.ready_in_us
    told = error_headers(rejection.code, ready_in_us=due_us, jitter=rng.uniform(-1, 1))
    status = (b"grpc-status", b"%d" % status_of(rejection.code, due_us))
    fields: Headers = [status, (b"grpc-message", encode_message(rejection.message).encode())]
    retry_after = told.get("Retry-After")
    if retry_after is not None:
        fields.append((b"grpc-retry-pushback-ms", b"%d" % (int(retry_after) * 1000)))
    elif rejection.row.should_retry is False:
        fields.append((b"grpc-retry-pushback-ms", b"-1"))
    fields += [(name.lower().encode(), value.encode()) for name, value in told.items() if name != "Content-Type"]
    if stream.started:
        stream.end(fields)
    else:
        stream.answer_in_head(200, [(b"content-type", b"application/grpc"), *fields, *identity(visit)])


def send_json(visit: Visit, content: Any) -> None:
    """Answer 200 with JSON."""
    visit.status = 200
    body = json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()
    visit.exchange.send(200, [(b"content-type", b"application/json"), *identity(visit)], body)


def foreign_error_event(status: int, body: bytes, protocol: Protocol) -> bytes:
    """Return a replica's error as an event, `error` first, for a stream whose status 200 was sent before."""
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        content = None
    content = content if isinstance(content, dict) else {}
    error = content.get("error") or body[:500].decode("utf-8", "replace") or f"the replica answered {status}"
    if protocol is Protocol.OPENAI:
        fields = error if isinstance(error, dict) else {"message": str(error), "type": "server_error", "code": None}
        told: dict[str, Any] = {"error": {**fields, "status": status}}
    else:
        told = {"error": error, "error_type": content.get("error_type") or "generation", "status": status}
    return b"data: " + json.dumps(told, ensure_ascii=False, separators=(",", ":")).encode() + b"\n\n"
