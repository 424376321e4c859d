"""Usage records as lines, written from templates: a model object for each would cost more than forwarding a request.

The lines are those that `Intent.encode` and `Settlement.encode` would give, member for member.
"""

from __future__ import annotations

import json
from typing import NamedTuple

from zerotide.activator.admission.profile import Profile
from zerotide.api.usage import Outcome, Tokens

_OUTCOMES = {outcome: b'"%b"' % outcome.value.encode() for outcome in Outcome}
_JSON_BOOL = (b"false", b"true")


class Mark(NamedTuple):
    """A place in the log: a segment by its number, and the bytes of it that lie before."""

    segment: int
    offset: int


NOWHERE = Mark(2**62, 0)
"""The place of what the disk has not taken yet: nothing is ever shipped up to there."""


def quoted(text: str) -> bytes:
    """Return a JSON string."""
    return json.dumps(text, ensure_ascii=False).encode("utf-8", "replace")


def intent_facts(profile: Profile, consumer: str, key_id: str, activator: str, idempotency_key: str) -> bytes:
    """Return the members of an intent that all requests of a head have in common."""
    facts = {
        "namespace": profile.namespace,
        "endpoint": profile.name,
        "endpointUid": profile.uid,
        "consumer": consumer,
        "keyId": key_id,
        "activator": activator,
        "model": profile.model_name,
        "idempotencyKey": idempotency_key[:256],
    }
    return json.dumps(facts, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")[1:-1]


def intent_line(
    facts: bytes,
    request_id: str,
    attempt: int,
    pod_uid: bytes,
    adapter: str,
    stream: bool,
    cold: bool,
    wake_id: str,
    accepted_us: int,
    forwarded_us: int,
    request_bytes: int,
) -> bytes:
    """Return an intent; `pod_uid` is quoted already, `adapter` is one of the endpoint's, times are microseconds since
    the epoch.

    A request that waited for a wake which has no name yet names its pod instead.
    """
    return (
        b'{"kind":"intent","requestId":"%b","attempt":%d,%b,"podUid":%b,"adapter":"%b","stream":%b,"cold":%b,"wakeId":%b,'
        b'"acceptedUs":%d,"forwardedUs":%d,"requestBytes":%d}\n'
    ) % (
        request_id.encode(),
        attempt,
        facts,
        pod_uid,
        adapter.encode(),
        _JSON_BOOL[stream],
        _JSON_BOOL[cold],
        quoted(wake_id) if wake_id else pod_uid if cold else b'""',
        accepted_us,
        forwarded_us,
        request_bytes,
    )


def settlement_line(
    request_id: str,
    attempt: int,
    first_byte_us: int | None,
    ended_us: int,
    response_bytes: int,
    tokens: Tokens | None,
    outcome: Outcome,
    status: int,
) -> bytes:
    """Return a settlement; times are microseconds since the epoch, None where there was no such moment."""
    first = b"null" if first_byte_us is None else b"%d" % first_byte_us
    told = (
        b"null"
        if tokens is None
        else b'{"input":%d,"cached":%d,"output":%d,"estimated":%b}'
        % (tokens.input, tokens.cached, tokens.output, _JSON_BOOL[tokens.estimated])
    )
    return (
        b'{"kind":"settlement","requestId":"%b","attempt":%d,"firstByteUs":%b,"endedUs":%d,"responseBytes":%d,'
        b'"tokens":%b,"outcome":%b,"status":%d}\n'
    ) % (request_id.encode(), attempt, first, ended_us, response_bytes, told, _OUTCOMES[outcome], status)
