"""OpenAI's error bodies."""

from __future__ import annotations

from zerotide_runtime.errors import GenerationFailed, InvalidRequest, NotReady, Overloaded, RequestError
from zerotide_runtime.server.message import Response, json_response
from zerotide_runtime.server.openai_limits import ContextTooLong


class ModelUnknown(InvalidRequest):
    """The request names another model than the one that is served."""

    def __init__(self, model: str) -> None:
        super().__init__(f"The model `{model}` does not exist on this server.", "model")


class EmbeddingsUnsupported(InvalidRequest):
    """The model generates text and makes no embeddings."""

    def __init__(self, model: str) -> None:
        super().__init__(f"The model `{model}` generates text; it does not support embeddings.", "model")


class DimensionsUnsupported(InvalidRequest):
    """The model's embeddings cannot be cut to the size that is asked for."""

    def __init__(self, asked: int, whole: int, allowed: tuple[int, ...] | None) -> None:
        sizes = [f"1 to {whole}"] if allowed is None else [str(size) for size in (*allowed, whole)]
        super().__init__(
            f"`dimensions` is {asked}, but this model's embeddings have {' or '.join(dict.fromkeys(sizes))} numbers",
            "dimensions",
        )


# Status, type, code; the first class that fits counts.
KINDS: tuple[tuple[type[RequestError], int, str, str | None], ...] = (
    (ModelUnknown, 404, "invalid_request_error", "model_not_found"),
    (ContextTooLong, 400, "invalid_request_error", "context_length_exceeded"),
    (EmbeddingsUnsupported, 400, "invalid_request_error", "embeddings_not_supported"),
    (InvalidRequest, 400, "invalid_request_error", None),
    (Overloaded, 429, "rate_limit_error", "overloaded"),
    (NotReady, 503, "service_unavailable", "not_ready"),
    (GenerationFailed, 500, "server_error", "generation_failed"),
)


def error_status(error: RequestError) -> int:
    """Return the HTTP status for an error."""
    return next(status for kind, status, _, _ in KINDS if isinstance(error, kind))


def error_content(error: RequestError) -> dict[str, object]:
    """Return the JSON body for an error."""
    type_, code = next((type_, code) for kind, _, type_, code in KINDS if isinstance(error, kind))
    param = error.param if isinstance(error, InvalidRequest) else None
    return {"error": {"message": str(error), "type": type_, "param": param, "code": code}}


def error_response(error: RequestError) -> Response:
    """Return the answer for an error."""
    status = error_status(error)
    headers = {"retry-after": "1"} if status in (429, 503) else {}
    return json_response(status, error_content(error), headers)
