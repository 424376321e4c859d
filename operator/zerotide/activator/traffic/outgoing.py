"""The headers that a replica sees: the client's own, without credentials and forged ones, and ours."""

from __future__ import annotations

from zerotide.activator.admission.profile import Profile
from zerotide.activator.traffic.visit import Visit
from zerotide.activator.wire import Headers, Request, end_to_end

_DROPPED = frozenset(
    (
        b"host",
        b"content-length",
        b"expect",
        b"authorization",
        b"x-api-key",
        b"accept-encoding",
        b"forwarded",
        b"x-real-ip",
        b"x-request-id",
        b"prefer",
        b"x-scale-up-timeout",
        b"content-encoding",
        # Some frameworks serve another target or method than that of the request line, which is what was admitted.
        b"x-original-url",
        b"x-rewrite-url",
        b"x-http-method-override",
        b"x-http-method",
        b"x-method-override",
    )
)
_FORGED = (b"x-forwarded-", b"x-zerotide-")


def upstream_headers(visit: Visit) -> Headers:
    """Return the headers that a replica sees: the client's own, without credentials and forged ones, and ours."""
    profile = visit.endpoint.profile if visit.endpoint is not None else None
    return [
        *kept_headers(visit.exchange.request, profile),
        (b"x-forwarded-for", visit.exchange.peer.address.encode()),
        (b"x-forwarded-proto", visit.exchange.peer.scheme),
        (b"x-request-id", visit.shown_id.encode("latin-1")),
    ]


def kept_headers(request: Request, profile: Profile | None) -> Headers:
    """Return those of them that are the same for all requests with one head."""
    kept = [
        (name, value)
        for name, value in end_to_end(request.headers, _DROPPED)
        if not name.startswith(_FORGED) and b"_" not in name
    ]
    return [
        (b"host", f"{profile.name}.{profile.namespace}".encode() if profile is not None else b""),
        *kept,
        (b"accept-encoding", b"identity"),
        (b"x-forwarded-host", request.get(b"host").encode("latin-1")),
    ]
