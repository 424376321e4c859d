"""Requests that are more than a body: who may make them of which endpoint, and which way they take."""

from __future__ import annotations

from urllib.parse import parse_qs

from zerotide.activator.admission.profile import Profile
from zerotide.activator.endpoints.registry import Registry
from zerotide.activator.traffic.calls import CallWay
from zerotide.activator.traffic.replies import is_call
from zerotide.activator.traffic.visit import Visit
from zerotide.activator.traffic.websocket import TunnelWay
from zerotide.activator.wire import Request
from zerotide.activator.wire.h2.stream import Stream
from zerotide.api.errors import ErrorCode, Rejection
from zerotide.api.grpc import parse_timeout


def is_upgrade(request: Request) -> bool:
    """Tell whether a request opens a WebSocket; the wire lets no other upgrade keep its header."""
    return request.method == "GET" and bool(request.get(b"upgrade"))


def take_special_way(visit: Visit, profile: Profile | None, registry: Registry) -> Profile | None:
    """Set the way of a request whose body is not simply read, and return its endpoint; None for all others.

    Raises invalid_request, route_not_found, model_not_found or ambiguous_model.
    """
    if is_call(visit.exchange):
        return _called(visit, visit.exchange, profile, registry)
    if profile is not None and profile.grpc:
        raise Rejection(ErrorCode.INVALID_REQUEST, f"endpoint {profile.key} speaks gRPC, and nothing else")
    if visit.exchange.request.method == "GET":
        profile = _upgraded(visit, profile, registry)
        visit.way = TunnelWay(visit, registry.limits)
        return profile
    return None


def _called(visit: Visit, stream: Stream, profile: Profile | None, registry: Registry) -> Profile:
    if profile is None:
        raise Rejection(ErrorCode.INVALID_REQUEST, "name the endpoint: by :authority, path or x-zerotide-endpoint")
    if not profile.grpc:
        raise Rejection(ErrorCode.INVALID_REQUEST, f"endpoint {profile.key} speaks HTTP, not gRPC")
    limits = registry.limits
    way = CallWay(visit, stream, profile.max_body_bytes, limits.unread_bytes, registry.now)
    given = stream.request.get(b"grpc-timeout")
    if given:
        seconds = parse_timeout(given)
        if seconds is None:
            raise Rejection(ErrorCode.INVALID_REQUEST, "grpc-timeout must be up to 8 digits and a unit, such as 30S")
        way.deadline = visit.started + seconds
        visit.longest = min(visit.longest, seconds)
    visit.way = way
    return profile


def _upgraded(visit: Visit, profile: Profile | None, registry: Registry) -> Profile:
    """Return the endpoint of a WebSocket, which may be named by `model` in the query as well."""
    if profile is None:
        model = "".join(parse_qs(visit.target.partition("?")[2]).get("model", [])[:1])
        if visit.caller is None or not model:
            raise Rejection(
                ErrorCode.INVALID_REQUEST, "name the endpoint: by host, path, X-Zerotide-Endpoint or `?model=`"
            )
        profile = registry.catalogue.by_model(visit.caller, model)
    if visit.path not in profile.extra_paths:
        raise Rejection(ErrorCode.ROUTE_NOT_FOUND, f"endpoint {profile.key} does not serve {visit.path[:256]}")
    if not profile.web_socket:
        raise Rejection(
            ErrorCode.INVALID_REQUEST, f"endpoint {profile.key} takes no WebSocket: request.webSocket is Disabled"
        )
    return profile
