"""Requests that are more than a body: who may make them of which endpoint, and which way they take."""

from __future__ import annotations

from urllib.parse import parse_qs

from zerotide.activator.admission.profile import Profile
from zerotide.activator.endpoints.registry import Registry
from zerotide.activator.traffic.visit import Visit
from zerotide.activator.traffic.websocket import TunnelWay
from zerotide.activator.wire import Request
from zerotide.api.errors import ErrorCode, Rejection


def is_upgrade(request: Request) -> bool:
    """Tell whether a request opens a WebSocket; the wire lets no other upgrade keep its header."""
    return request.method == "GET" and bool(request.get(b"upgrade"))


def take_special_way(visit: Visit, profile: Profile | None, registry: Registry) -> Profile | None:
    """Set the way of a request whose body is not simply read, and return its endpoint; None for all others.

    Raises invalid_request, route_not_found, model_not_found or ambiguous_model.
    """
    if visit.exchange.request.method == "GET":
        profile = _upgraded(visit, profile, registry)
        visit.way = TunnelWay(visit, registry.limits)
        return profile
    return None


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
