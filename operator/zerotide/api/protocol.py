"""Routes: which requests are forwarded to a replica, which are answered at the gateway, and in which protocol.

Engines serve their admin routes on the same port, so only the routes below, and those that an endpoint adds, ever
reach one. Paths are compared exactly: nothing is normalised or decoded, so an encoded route is no route.
"""

from __future__ import annotations

from collections.abc import Collection
from enum import StrEnum
from typing import NamedTuple


class Protocol(StrEnum):
    """The protocol of a route, which decides the shape of errors."""

    OPENAI = "openai"
    TGI = "tgi"


class Action(StrEnum):
    """What happens to a request."""

    FORWARD = "forward"
    LOCAL = "local"
    """Answered at the gateway; never wakes and is never activity."""
    NOT_FOUND = "not_found"


class Route(NamedTuple):
    """What happens to a request, in which protocol."""

    action: Action
    protocol: Protocol


OPENAI_PATHS = frozenset(
    f"/v1/{path}"
    for path in (
        "chat/completions",
        "completions",
        "embeddings",
        "responses",
        "messages",
        "rerank",
        "score",
        "audio/transcriptions",
        "audio/translations",
    )
)
TGI_PATHS = frozenset(("/", "/generate", "/generate_stream", "/tokenize", "/chat_tokenize", "/invocations"))
FORWARDED_PATHS = OPENAI_PATHS | TGI_PATHS
"""Forwarded for POST."""

LOCAL_PATHS = frozenset(("/", "/health", "/ping", "/info", "/v1/models"))
"""Answered at the gateway for GET."""

MODELS_PATH = "/v1/models"
_LOCAL_METHODS = frozenset(("HEAD", "OPTIONS"))


def protocol_of(path: str) -> Protocol:
    """Return the protocol in which a path is answered, known or not."""
    return Protocol.OPENAI if path == "/v1" or path.startswith("/v1/") else Protocol.TGI


def route(method: str, path: str, extra_paths: Collection[str] = ()) -> Route:
    """Return what happens to a request.

    `path` has neither query nor endpoint prefix; `extra_paths` are the endpoint's `request.extraPaths`.
    """
    protocol = protocol_of(path)
    if method == "POST" and (path in FORWARDED_PATHS or path in extra_paths):
        return Route(Action.FORWARD, protocol)
    if method in _LOCAL_METHODS:
        return Route(Action.LOCAL, protocol)
    if method == "GET" and (path in LOCAL_PATHS or model_id(path)):
        return Route(Action.LOCAL, protocol)
    return Route(Action.NOT_FOUND, protocol)


def model_id(path: str) -> str:
    """Return the model of a path `/v1/models/<id>`, where the id may hold slashes; empty for other paths."""
    return path[len(MODELS_PATH) + 1 :] if path.startswith(f"{MODELS_PATH}/") else ""
