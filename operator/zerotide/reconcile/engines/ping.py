"""What a ping asks of an engine: one token of an answer, where the spec does not say otherwise."""

from __future__ import annotations

from zerotide.api.endpoint import InferenceEndpoint
from zerotide.api.generation import one_token


def ping(endpoint: InferenceEndpoint) -> tuple[str, str]:
    """Return the path and the body of a ping; without a body it is a GET. A custom engine's spec names the path."""
    given = endpoint.spec.scaling.ping
    if given is not None and given.path is not None:
        return given.path, given.body or ""
    return one_token(endpoint.spec.runtime.engine, endpoint.model_name)
