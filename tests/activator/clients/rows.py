"""The table of errors as clients are promised it, written down once more, and what each client makes of a row."""

from __future__ import annotations

from typing import NamedTuple

from tests.activator.clients.situations import (
    Situation,
    ambiguous,
    asking,
    blocked,
    closed,
    crowded_consumer,
    deleted,
    full,
    lost,
    revoked,
    spec,
    stuck,
    unbilled,
    used_up,
)


class Row(NamedTuple):
    """A row: `wait` is Retry-After, `retry` x-should-retry; absent where empty."""

    code: str
    status: int
    type: str
    wait: str
    retry: str
    bring: Situation
    name: str = ""
    """What tells it from others of its code."""
    by_model: bool = False
    """Whether only a request can meet it that names a model."""
    at_once: bool = False
    """Whether the request asks for an answer at once, so that a 503 need not wait a second."""

    @property
    def id(self) -> str:
        """Return its name in the test report."""
        return f"{self.code}-{self.name}" if self.name else self.code


BAD, BUSY, COLD, FAILED = "invalid_request_error", "rate_limit_error", "service_unavailable", "server_error"

NO_WAIT = {"Prefer": "wait=0"}
ELSEWHERE = {"X-Zerotide-Endpoint": "demo/other"}
ROWS = (
    Row("invalid_request", 400, BAD, "", "", asking(headers={"X-Scale-Up-Timeout": "soon"})),
    Row("endpoint_mismatch", 400, BAD, "", "", asking(headers=ELSEWHERE)),
    Row("ambiguous_model", 400, BAD, "", "", ambiguous, by_model=True),
    Row("invalid_api_key", 401, BAD, "", "", revoked),
    Row("budget_exhausted", 402, "insufficient_quota", "", "false", used_up("Block"), "block"),
    Row("budget_exhausted", 402, "insufficient_quota", "", "false", used_up("DenyWake"), "deny-wake"),
    Row("forbidden", 403, "permission_error", "", "", closed),
    Row("model_not_found", 404, BAD, "", "", asking(path="", model="none"), by_model=True),
    Row("endpoint_not_found", 404, BAD, "", "", deleted),
    Row("route_not_found", 404, BAD, "", "", asking(path="/endpoints/demo/m/v1/v1")),
    Row("request_too_large", 413, BAD, "", "", asking(prompt="x" * 18_000_000), "default"),
    Row("request_too_large", 413, BAD, "", "", spec("x" * 2000, request={"maxBodyBytes": "1Ki"}), "small"),
    Row("consumer_limit", 429, BUSY, "1", "true", crowded_consumer),
    Row("queue_full", 429, BUSY, "clamp", "true", full),
    Row("endpoint_cold", 503, COLD, "clamp", "true", asking(headers=NO_WAIT), "no-wait", at_once=True),
    Row("endpoint_cold", 503, COLD, "clamp", "true", spec(hold={"whileCold": "Reject"}), "reject"),
    Row("hold_timeout", 503, COLD, "clamp", "true", spec(hold={"coldTimeout": "1s"})),
    Row("unschedulable", 503, COLD, "clamp", "true", blocked("Unschedulable")),
    Row("ledger_unavailable", 503, COLD, "clamp", "true", unbilled),
    Row("start_backoff", 503, COLD, "clamp", "true", blocked("StartBackoff", 40), "soon"),
    Row("start_backoff", 500, FAILED, "", "false", blocked("StartBackoff", 400), "later"),
    Row("suspended", 500, FAILED, "", "false", spec(suspend=True)),
    Row("never_schedulable", 500, FAILED, "", "false", blocked("NeverSchedulable")),
    Row("image_pull_failed", 500, FAILED, "", "false", blocked("ImagePullFailed")),
    Row("crash_looping", 500, FAILED, "", "false", blocked("CrashLooping")),
    Row("out_of_memory", 500, FAILED, "", "false", blocked("OutOfMemory")),
    Row("credentials_missing", 500, FAILED, "", "false", blocked("CredentialsMissing")),
    Row("model_download_failed", 500, FAILED, "", "false", blocked("ModelDownloadFailed")),
    Row("pod_refused", 500, FAILED, "", "false", blocked("PodRefused")),
    Row("pod_refused", 500, FAILED, "", "false", blocked("VolumeFailed"), "volume"),
    Row("pod_refused", 500, FAILED, "", "false", blocked("NameConflict"), "name"),
    Row("pod_refused", 500, FAILED, "", "false", blocked("ExternalWriter"), "writer"),
    Row("invalid_pod_template", 500, FAILED, "", "false", blocked("InvalidPodTemplate")),
    Row("start_deadline_exceeded", 500, FAILED, "", "false", blocked("StartDeadlineExceeded")),
    Row("upstream_lost", 502, FAILED, "", "false", lost),
    Row("upstream_timeout", 504, FAILED, "", "false", stuck),
)

OPENAI = {
    400: "BadRequestError",
    401: "AuthenticationError",
    403: "PermissionDeniedError",
    404: "NotFoundError",
    413: "APIStatusError",
    429: "RateLimitError",
}
"""What openai raises for a status; InternalServerError from 500 on."""

TGI = {
    400: "ValidationError",
    403: "ShardNotReadyError",
    404: "NotFoundError",
    413: "ValidationError",
    429: "OverloadedError",
    504: "ShardTimeoutError",
}
"""What the text-generation client raises for a status and our `error_type`; else UnknownError."""

HUB = {400: "ValidationError", 413: "ValidationError", 429: "OverloadedError"}
"""What huggingface_hub raises where text is generated; else UnknownError, the HTTP error being its cause.

On a path of OpenAI's, which no route is, it raises the HTTP error itself.
"""
