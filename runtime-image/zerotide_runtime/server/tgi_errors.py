"""TGI's error bodies."""

from __future__ import annotations

from zerotide_runtime.errors import (
    GenerationFailed,
    InvalidRequest,
    NotReady,
    Overloaded,
    RequestError,
    TemplateError,
)
from zerotide_runtime.server.fields import Object
from zerotide_runtime.server.message import Response, json_response

# Status, prefix of the message, error_type; the first class that fits counts.
KINDS: tuple[tuple[type[RequestError], int, str, str], ...] = (
    (TemplateError, 422, "Template error: ", "template_error"),
    (InvalidRequest, 422, "Input validation error: ", "validation"),
    (Overloaded, 429, "", "overloaded"),
    (NotReady, 503, "", "healthcheck"),
    (GenerationFailed, 424, "Request failed during generation: ", "generation"),
)


def error_content(error: RequestError) -> Object:
    """Return TGI's JSON body for an error."""
    prefix, kind = next((prefix, name) for known, _, prefix, name in KINDS if isinstance(error, known))
    return {"error": f"{prefix}{error}", "error_type": kind}


def error_response(error: RequestError) -> Response:
    """Return TGI's answer for an error."""
    status = next(status for known, status, _, _ in KINDS if isinstance(error, known))
    headers = {"retry-after": "1"} if status in (429, 503) else {}
    return json_response(status, error_content(error), headers)
