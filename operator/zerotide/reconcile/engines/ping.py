"""What a ping asks of an engine: one token of an answer, where the spec does not say otherwise."""

from __future__ import annotations

import json

from zerotide.api.endpoint import Engine, InferenceEndpoint


def ping(endpoint: InferenceEndpoint) -> tuple[str, str]:
    """Return the path and the body of a ping; without a body it is a GET. A custom engine's spec names the path."""
    given = endpoint.spec.scaling.ping
    if given is not None and given.path is not None:
        return given.path, given.body or ""
    if endpoint.spec.runtime.engine is Engine.TGI:
        return "/generate", json.dumps({"inputs": "a", "parameters": {"max_new_tokens": 1}})
    return "/v1/completions", json.dumps({"model": endpoint.model_name, "prompt": "a", "max_tokens": 1})
